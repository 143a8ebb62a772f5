"""Libraries that are not installed, and the command that installs them."""

from __future__ import annotations

import sys
from importlib.util import find_spec

LIBRARIES = {
    "files": ("h5py", "pyarrow"),
    "kafka": ("confluent_kafka",),
    "qdrant": ("qdrant_client",),
    "scale": ("cryptography", "dask", "distributed", "h5py", "pyarrow"),
}
"""What each extra installs, by the names under which it is imported."""


def installs(extra: str) -> str:
    """Return the command that installs an extra of this package for the Python that runs.

    The image has no pip beside the package, so another one must be told where that is.
    """
    pip = f"{sys.executable} -m pip" if find_spec("pip") else f"pip --python {sys.executable}"
    return f"{pip} install 'embedding-drift-exporter[{extra}]'"


def missing(error: ModuleNotFoundError, extra: str) -> str:
    """Return the library of an extra that is not installed.

    Raises
    ------
    ModuleNotFoundError
        The error itself, if the extra does not install what is missing.
    """
    library = (error.name or "").partition(".")[0]
    if library not in LIBRARIES.get(extra, ()):
        raise error
    return library


def needs(error: ModuleNotFoundError, extra: str) -> str:
    """Say which library of an extra is needed, and how to install it.

    Raises
    ------
    ModuleNotFoundError
        The error itself, if the extra does not install what is missing.
    """
    return f"needs {missing(error, extra)}: {installs(extra)}"
