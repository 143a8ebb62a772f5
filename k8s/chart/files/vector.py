"""Run by `helm test`: a vector goes through ingest into the store, and the exporter shows it."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

MODEL = "helm-test"
_DEADLINE = time.monotonic() + 120


def ask(url: str, body: object = None) -> object:
    """Send a request, with the token and a JSON body if there is one; return the answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data)  # noqa: S310
    if data is not None:
        request.add_header("Authorization", f"Bearer {os.environ['TOKEN']}")
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)


def ask_again(url: str, body: object = None) -> object:
    """Ask until there is an answer: network policies and polls take seconds."""
    while True:
        try:
            return ask(url, body)
        except OSError as error:
            if body is None and isinstance(error, urllib.error.HTTPError) and error.code == 401:
                return "asks for a user of server.web_config_file"
            is_final = isinstance(error, urllib.error.HTTPError) and error.code not in (404, 503)
            if is_final or time.monotonic() > _DEADLINE:
                sys.exit(f"{url}: {error}")
            time.sleep(2)


vector = {"model_name": MODEL, "embedding": [1, 2, 3]}
print("ingest:", ask_again(f"{os.environ['INGEST']}/embeddings", vector))
try:
    print("exporter:", ask_again(f"{os.environ['EXPORTER']}/drift/{MODEL}"))
finally:
    subprocess.run(["embedding-drift", "model", "remove", MODEL, "--yes"], check=True)  # noqa: S603, S607
