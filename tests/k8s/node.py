"""A Kubernetes node on this machine: containerd, kubelet, kube-proxy, kube-router, DNS and metrics.

``.ci/pods`` gives it a network, processes and mounts of its own, and takes them away.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trustme
import yaml

from tests.k8s import cluster
from tests.k8s.cluster import NODE, Cluster, built, wait_for
from tests.programs import find

ADDRESS = "10.244.0.1"
"""Address of the node on the bridge of the pods."""
_PODS = "10.244.0.0/24"
_SERVICES = "10.0.0.0/24"
_DNS = "10.0.0.10"
_BRIDGE = "pods"
_METRICS_PORT = 4443
PAUSE = "localhost/pause:1"
"""The image that holds the network of a pod: any program that waits."""


class Node:
    """The programs of a node, and commands to its containerd."""

    def __init__(self, found: Cluster, folder: Path) -> None:
        self.cluster = found
        self._folder = folder
        self._commands: dict[str, list[str]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str | Path) -> None:
        """Start a program; its output goes to a log in the folder."""
        self._commands[name] = list(map(str, command))
        with (self._folder / f"{name}.log").open("a") as log:
            self._processes[name] = subprocess.Popen(self._commands[name], stdout=log, stderr=log)

    def restart(self, name: str) -> None:
        """Kill a program, and start it again."""
        self._processes[name].kill()
        self._processes[name].wait(60)
        self.start(name, *self._commands[name])

    def check(self) -> None:
        """Raise AssertionError if a program has ended."""
        for name, process in self._processes.items():
            log = self._folder / f"{name}.log"
            assert process.poll() is None, f"{name}: {log.read_text()[-2000:]}"

    def stop(self) -> None:
        """End the programs. Pods go on until ``.ci/pods`` ends."""
        for process in reversed(self._processes.values()):
            process.terminate()
            process.wait(60)

    def load(self, archive: Path) -> None:
        """Give containerd the images of an archive, as names of Docker's registry."""
        self.ctr("images", "import", str(archive))
        for name in self.ctr("images", "list", "--quiet").split():
            short = name.removeprefix("localhost/")
            if short != name and name != PAUSE:
                self.ctr("images", "tag", "--force", name, f"docker.io/library/{short}")

    def ctr(self, *arguments: str) -> str:
        """Run containerd's own command."""
        socket = self._folder / "containerd.sock"
        command = [find("ctr"), f"--address={socket}", "--namespace=k8s.io", *arguments]
        answer = subprocess.run(command, capture_output=True, text=True)
        assert answer.returncode == 0, f"{command}: {answer.stdout}{answer.stderr}"
        return answer.stdout

    def volume(self, name: str, owner: int) -> None:
        """Make a volume that a claim finds. It belongs to a user, as it would by ``fsGroup``."""
        folder = self._folder / "volumes" / name
        folder.mkdir(parents=True)
        os.chown(folder, owner, owner)
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name},
                "spec": {
                    "capacity": {"storage": "5Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "hostPath": {"path": str(folder), "type": "Directory"},
                },
            }
        )


@contextlib.contextmanager
def running(folder: Path, kubectl: str, helm: str, archives: list[Path]) -> Iterator[Node]:
    """Start a cluster with a node that has the images of some archives."""
    for command in (
        f"ip link add {_BRIDGE} type bridge",
        f"ip address add {ADDRESS}/24 dev {_BRIDGE}",
        f"ip link set {_BRIDGE} up",
        f"ip route add {_SERVICES} dev {_BRIDGE} src {ADDRESS}",
        f"ip address add {_DNS}/32 dev lo",
        "sysctl --quiet --write net.ipv4.ip_forward=1",
    ):
        subprocess.run(command.split(), check=True)
    authority, client = trustme.CA(), folder / "client.pem"
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    # Go refuses a certificate without a name beside the common one.
    issued = authority.issue_cert("kube-apiserver", common_name="kube-apiserver")
    issued.private_key_and_cert_chain_pem.write_to_path(str(client))
    options = (
        f"--kubelet-client-certificate={client}",
        f"--kubelet-client-key={client}",
        "--kubelet-preferred-address-types=InternalIP",
        "--endpoint-reconciler-type=lease",  # pods find the API server
        # The API server passes requests for metrics on to the metrics server.
        f"--requestheader-client-ca-file={folder / 'ca.pem'}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={client}",
        f"--proxy-client-key-file={client}",
        "--enable-aggregator-routing",
    )
    with (
        cluster.running(folder, kubectl, helm, ADDRESS, *options) as found,
        contextlib.ExitStack() as stack,
    ):
        node = Node(found, folder)
        stack.callback(node.stop)
        node.start("containerd", find("containerd"), f"--config={_containerd(folder)}")
        wait_for((folder / "containerd.sock").exists, "containerd")
        for archive in archives:
            node.load(archive)
        _start(node, folder, found.kubeconfig)
        _measure(node, folder, client)
        yield node
        node.check()


def _start(node: Node, folder: Path, kubeconfig: Path) -> None:
    options = [f"--kubeconfig={kubeconfig}", "--leader-elect=false"]
    node.start("kube-scheduler", built("kube-scheduler", "kubernetes"), *options)
    node.start(
        "kubelet",
        built("kubelet", "kubernetes"),
        f"--config={_kubelet(folder)}",
        f"--kubeconfig={folder / f'{NODE}.kubeconfig'}",
        f"--hostname-override={NODE}",
        f"--node-ip={ADDRESS}",
        f"--root-dir={folder / 'kubelet'}",
        f"--cert-dir={folder / 'kubelet-certificates'}",
    )
    node.start("kube-proxy", built("kube-proxy", "kubernetes"), f"--config={_proxy(folder)}")
    corefile = folder / "Corefile"
    corefile.write_text(
        f".:53 {{\n bind {_DNS}\n errors\n"
        f" kubernetes cluster.local {{\n  kubeconfig {kubeconfig}\n }}\n}}\n"
    )
    node.start("coredns", built("coredns", "coredns"), f"-conf={corefile}")
    wait_for(lambda: _is_ready(node.cluster), "the node")
    # It ends if there is no node of that name yet.
    node.start(
        "kube-router",
        built("kube-router", "router"),
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={NODE}",
        f"--service-cluster-ip-range={_SERVICES}",
        "--run-router=false",
        "--run-service-proxy=false",
    )


def _measure(node: Node, folder: Path, client: Path) -> None:
    """Start the metrics server, and tell the API server where it is."""
    kubeconfig = node.cluster.kubeconfig
    node.start(
        "metrics-server",
        built("metrics-server", "metrics"),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={ADDRESS}",
        f"--secure-port={_METRICS_PORT}",
        f"--cert-dir={folder / 'metrics-certificates'}",
        f"--kubelet-client-certificate={client}",
        f"--kubelet-client-key={client}",
        "--kubelet-insecure-tls",
        "--kubelet-preferred-address-types=InternalIP",
        "--metric-resolution=15s",
    )
    place = {"name": "metrics-server", "namespace": "kube-system"}
    labels = {"kubernetes.io/service-name": place["name"]}
    port = {"name": "https", "port": _METRICS_PORT}
    node.cluster.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": place, "spec": {"ports": [port]}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**place, "labels": labels},
            "addressType": "IPv4",
            "ports": [port],
            "endpoints": [{"addresses": [ADDRESS]}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "service": {**place, "port": _METRICS_PORT},
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    )


def _is_ready(found: Cluster) -> bool:
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for node in found.get("nodes")
        for condition in node["status"]["conditions"]
    )


def _containerd(folder: Path) -> Path:
    network = folder / "network"
    network.mkdir()
    bridge: dict[str, Any] = {
        "type": "bridge",
        "bridge": _BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(folder / "addresses"),
            "ranges": [[{"subnet": _PODS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    (network / "pods.conflist").write_text(
        json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]})
    )
    file = folder / "containerd.toml"
    # Not every machine may lower the score by which the kernel chooses what to kill.
    file.write_text(f"""
version = 2
root = "{folder}/containerd"
state = "/run/containerd"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{network}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
""")
    return file


def _kubelet(folder: Path) -> Path:
    (folder / "resolv.conf").touch()
    return _write(
        folder / "kubelet.yaml",
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(folder / "ca.pem")},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{_cgroup()}",
            "enforceNodeAllocatable": [],
            "oomScoreAdj": 0,
            "clusterDomain": "cluster.local",
            "clusterDNS": [_DNS],
            "resolvConf": str(folder / "resolv.conf"),
            "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
            "podLogsDir": str(folder / "pods"),
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
        },
    )


def _proxy(folder: Path) -> Path:
    return _write(
        folder / "proxy.yaml",
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "hostnameOverride": NODE,
            "clientConnection": {"kubeconfig": str(folder / "administrator.kubeconfig")},
            "clusterCIDR": _PODS,
            "conntrack": {"maxPerCore": 0, "min": 0},
            "oomScoreAdj": 0,
        },
    )


def _cgroup() -> str:
    """Make the control group that ``.ci/pods`` removes, in each hierarchy."""
    name = os.environ["TEST_CGROUP"]
    root = Path("/sys/fs/cgroup")
    unified = (root / "cgroup.controllers").exists()
    for hierarchy in [root] if unified else root.iterdir():
        if not hierarchy.is_symlink():
            (hierarchy / name).mkdir(exist_ok=True)
    return name


def _write(file: Path, content: dict[str, Any]) -> Path:
    file.write_text(yaml.safe_dump(content))
    return file
