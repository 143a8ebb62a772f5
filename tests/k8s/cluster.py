"""A Kubernetes without nodes: etcd, the API server and the controller manager.

Objects are validated, admitted and followed up as in any cluster, but no pod starts.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from demo.stack import free_port
from k8s.helm import tool
from tests.programs import find, missing

NODE = "node"
"""Name of the node that may join."""
_TOKENS = {  # of a server that only this machine reaches, and that ends with the tests
    "administrator": "administrator,administrator,system:masters",
    NODE: f"system:node:{NODE},{NODE},system:nodes",
}
_WAIT_SECONDS = 240.0


class Cluster:
    """The commands of people, sent to one cluster."""

    def __init__(self, kubectl: str, helm: str, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._kubectl = [kubectl, f"--kubeconfig={kubeconfig}"]
        self._helm = [helm, f"--kubeconfig={kubeconfig}"]

    def kubectl(self, *arguments: str | Path, allowed: tuple[int, ...] = (0,)) -> str:
        """Run kubectl and return its output."""
        return _run([*self._kubectl, *map(str, arguments)], allowed)

    def helm(self, *arguments: str | Path) -> str:
        """Run helm and return its output."""
        return _run([*self._helm, *map(str, arguments)], (0,))

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create objects, or change them."""
        _run([*self._kubectl, "apply", "--filename=-"], (0,), yaml.safe_dump_all(objects))

    def get(self, *arguments: str) -> Any:
        """Return an object, or the list of objects, that kubectl finds."""
        found = json.loads(self.kubectl("get", *arguments, "--output=json"))
        return found.get("items", found)

    @contextlib.contextmanager
    def namespace(self, name: str) -> Iterator[str]:
        """Make a namespace that admits only restricted pods; delete it afterwards."""
        self.kubectl("create", "namespace", name)
        enforced = "pod-security.kubernetes.io/enforce=restricted"
        self.kubectl("label", "namespace", name, enforced)
        yield name
        self.kubectl("delete", "namespace", name, "--timeout=240s")


def _run(command: list[str], allowed: tuple[int, ...], given: str | None = None) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, input=given)
    assert answer.returncode in allowed, f"{command}: {answer.stdout}{answer.stderr}"
    return answer.stdout


@contextlib.contextmanager
def running(
    folder: Path, kubectl: str, helm: str, address: str = "127.0.0.1", *options: str
) -> Iterator[Cluster]:
    """Start a cluster with its files in a folder; stop it afterwards.

    The API server listens at the address, with more options. A node joins with the file
    ``NODE.kubeconfig``.
    """
    ports: set[int] = set()
    while len(ports) < 4:
        ports.add(free_port())
    etcd_port, peer_port, port, manager_port = ports
    key, tokens = folder / "key.pem", folder / "tokens.csv"
    _run([find("openssl"), "genrsa", "-out", str(key), "2048"], (0,))
    tokens.write_text("".join(f"{token},{user}\n" for token, user in _TOKENS.items()))
    for token in _TOKENS:
        file = folder / f"{token}.kubeconfig"
        file.write_text(yaml.safe_dump(_kubeconfig(f"https://{address}:{port}", token)))
    kubeconfig = folder / "administrator.kubeconfig"
    etcd = f"http://127.0.0.1:{etcd_port}"
    programs = {
        "etcd": [
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
            "--unsafe-no-fsync",
        ],
        "kube-apiserver": [
            f"--etcd-servers={etcd}",
            f"--secure-port={port}",
            f"--bind-address={address}",
            f"--advertise-address={address}",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={folder / 'certificates'}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=Node,RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            *options,
        ],
        "kube-controller-manager": [
            f"--kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={manager_port}",
            f"--cert-dir={folder / 'certificates'}",
            f"--root-ca-file={folder / 'certificates' / 'apiserver.crt'}",
            "--leader-elect=false",
            f"--service-account-private-key-file={key}",
        ],
    }
    cluster = Cluster(kubectl, helm, kubeconfig)
    with contextlib.ExitStack() as stack:
        for name, arguments in programs.items():
            log = stack.enter_context((folder / f"{name}.log").open("w"))
            command = [built(name, "etcd" if name == "etcd" else "kubernetes"), *arguments]
            process = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            if name == "kube-apiserver":
                _wait_until_ready(cluster, process, Path(log.name))
        yield cluster


def built(name: str, version_of: str) -> str:
    """Return the path of a program; without it, the test says how to build it."""
    program = tool(name, version_of)
    return str(program) if program.exists() else missing(f"{name} is not built; see .ci/kubernetes")


def _kubeconfig(server: str, token: str) -> dict[str, Any]:
    cluster = {"server": server, "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": "tests", "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        "current-context": "tests",
    }


def _wait_until_ready(cluster: Cluster, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while "ok" not in cluster.kubectl("get", "--raw=/readyz", allowed=(0, 1)):
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.5)


def wait_for(condition: Any, what: str) -> None:
    """Wait for a condition that the controllers bring about."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.3)
