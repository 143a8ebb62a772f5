"""The shard: which of the models this exporter follows."""

from __future__ import annotations

import re

from ingest.runtime.errors import SettingsError
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.store.shard import WHOLE, Shard


def shard(settings: MonitoringSettings, host: str) -> Shard:
    """Determine the shard from the settings, or from a host name like ``exporter-3``.

    Kubernetes names the pods of a StatefulSet so.

    Raises
    ------
    SettingsError
        If there are several shards and neither says which one this is.
    """
    total = settings.total_shards
    if total == 1:
        return WHOLE
    if settings.shard is not None:
        return Shard(settings.shard, total)
    ordinal = re.search(r"-(\d+)$", host.partition(".")[0])
    if ordinal is None:
        raise SettingsError(
            f"monitoring.total_shards is {total}: set monitoring.shard, or end the host name"
            f" ({host!r}) with a number"
        )
    if int(ordinal[1]) >= total:
        raise SettingsError(
            f"the host name {host!r} makes this shard {ordinal[1]}; monitoring.total_shards"
            f" ({total}) allows 0 to {total - 1}"
        )
    return Shard(int(ordinal[1]), total)
