"""Find the programs of Prometheus and Alertmanager."""

from __future__ import annotations

import shutil

# Debian calls the server of Alertmanager prometheus-alertmanager; upstream calls it alertmanager.
_PROGRAMS = {
    "prometheus": ("prometheus", ["prometheus"]),
    "promtool": ("prometheus", ["promtool"]),
    "alertmanager": ("prometheus-alertmanager", ["prometheus-alertmanager", "alertmanager"]),
    "amtool": ("prometheus-alertmanager", ["amtool"]),
}


class ToolMissing(FileNotFoundError):
    """A program is not installed. The message says what to install."""


def find(tool: str) -> str:
    """Return the path of ``prometheus``, ``promtool``, ``alertmanager`` or ``amtool``.

    Raises
    ------
    ToolMissing
        With the name of the Debian package.
    """
    package, names = _PROGRAMS[tool]
    for name in names:
        if path := shutil.which(name):
            return path
    raise ToolMissing(f"{tool} is not installed; on Debian: apt-get install {package}")
