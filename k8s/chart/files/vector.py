"""Run by `helm test`: a vector goes through ingest into the store, and the exporter shows it."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

MODEL = "helm-test"


def ask(url: str, body: object = None) -> object:
    """Send a request, with the token and a JSON body if there is one; return the answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data)  # noqa: S310
    if data is not None:
        request.add_header("Authorization", f"Bearer {os.environ['TOKEN']}")
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)


vector = {"model_name": MODEL, "embedding": [1, 2, 3]}
print("ingest:", ask(f"{os.environ['INGEST']}/embeddings", vector))
try:
    deadline = time.monotonic() + 120
    while True:
        try:
            print("exporter:", ask(f"{os.environ['EXPORTER']}/drift/{MODEL}"))
            break
        except urllib.error.URLError as error:
            if time.monotonic() > deadline:
                sys.exit(f"the exporter does not show the model {MODEL}: {error}")
            time.sleep(2)
finally:
    subprocess.run(["embedding-drift", "model", "remove", MODEL, "--yes"], check=True)  # noqa: S603, S607
