"""Whether the service in this container is healthy: the image's HEALTHCHECK."""

import os
import sys
import urllib.error
import urllib.request

# serve and exporter answer on the first port, ingest on the second.
PORTS = os.environ.get("EMBEDDING_DRIFT_SERVER_PORT", "10910 10911").split()


def is_healthy(port: str) -> bool:
    """Ask the service on a port; nobody listening there is one way of not being healthy."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/healthy", timeout=4) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


sys.exit(0 if any(map(is_healthy, PORTS)) else 1)
