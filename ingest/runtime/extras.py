"""Libraries that are not installed, and the command that installs them."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def installs(extra: str) -> str:
    """Return the command that installs an extra of this package for the Python that runs.

    The image has no pip beside the package, so another one must be told where that is.
    """
    pip = f"{sys.executable} -m pip" if find_spec("pip") else f"pip --python {sys.executable}"
    return f"{pip} install 'embedding-drift-exporter[{extra}]'"


def needs(library: str | None, extra: str) -> str:
    """Say that a library is needed, and how to install it."""
    return f"needs {library}: {installs(extra)}"
