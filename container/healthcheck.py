"""The HEALTHCHECK of the image: exit code 0 if the service in this container is healthy."""

import os
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

# serve, exporter and watch listen on the first port, ingest on the second.
PORTS = os.environ.get("EMBEDDING_DRIFT_SERVER_PORT", "10910 10911").split()

# The certificate is for the public name, not for 127.0.0.1.
UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname = False
UNVERIFIED.verify_mode = ssl.CERT_NONE


def answers(connection: HTTPConnection) -> bool:
    """Return whether the service answers 200; a refused connection counts as no."""
    try:
        connection.request("GET", "/-/healthy")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def is_healthy(port: int) -> bool:
    """Ask without TLS and with TLS, because the check does not read the configuration."""
    return answers(HTTPConnection("127.0.0.1", port, timeout=4)) or answers(
        HTTPSConnection("127.0.0.1", port, timeout=4, context=UNVERIFIED)
    )


sys.exit(0 if any(is_healthy(int(port)) for port in PORTS) else 1)
