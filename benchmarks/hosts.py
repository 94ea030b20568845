"""A Ray cluster of several hosts on one machine (Linux, root, iproute2, util-linux).

A host is a network namespace with an address, a host name and a folder /tmp/ray of its own, on one
bridge with the others. All other files are shared, as on a file system of a cluster. The first host
is the head, without CPUs for workers; the others have one each.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

BRIDGE, NETWORK, PORT = "thr-bridge", "10.77.0", 6379
START_SECONDS = 120.0
OBJECT_STORE = 80_000_000  # bytes
APART = ("unshare", "--mount", "--uts", "sh", "-c")
APART += ('hostname "$0"; mkdir -p /tmp/ray; mount -t tmpfs tmpfs /tmp/ray; exec "$@"',)
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # at 15, the default, workers hardly run on a busy machine
    "OMP_NUM_THREADS": "1",
}


class Hosts:
    """The hosts `thr-0` (head) to `thr-N`."""

    def __init__(self, workers: int) -> None:
        self.names = [f"thr-{i}" for i in range(workers + 1)]
        self._raylets: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        """Of the cluster."""
        return f"{NETWORK}.1:{PORT}"

    def command(self, host: str, folder: Path, words: Sequence[str]) -> list[str]:
        """The command line that runs `words` in a folder on a host where Ray was started."""
        enter = ["nsenter", f"--target={self._raylets[host].pid}", "--net", "--mount", "--uts"]
        return [*enter, "env", "-C", str(folder), *words]

    def start(self, host: str) -> None:
        """Start Ray on a host, and wait until it takes part."""
        number = self.names.index(host)
        ray = [
            str(Path(sys.executable).parent / "ray"),
            "start",
            "--block",
            "--disable-usage-stats",
        ]
        ray += [f"--node-ip-address={NETWORK}.{number + 1}", f"--num-cpus={min(number, 1)}"]
        ray += [f"--object-store-memory={OBJECT_STORE}"]
        ray += (
            ["--head", f"--port={PORT}", "--include-dashboard=false"]
            if number == 0
            else [f"--address={self.address}"]
        )
        self._raylets[host] = subprocess.Popen(
            ["ip", "netns", "exec", host, *APART, host, *ray],
            env={**os.environ, **ENVIRONMENT},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + START_SECONDS
        while not self.raylets(host):
            if time.monotonic() > end or self._raylets[host].poll() is not None:
                raise SystemExit(f"Ray did not start on {host}")
            time.sleep(0.2)

    def processes(self, host: str) -> list[int]:
        """All processes on a host."""
        found = subprocess.run(["ip", "netns", "pids", host], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    def raylets(self, host: str) -> list[int]:
        """The raylet's process, if it runs."""
        out = []
        for pid in self.processes(host):
            try:
                name = Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:  # it has ended
                continue
            out += [pid] if name == "raylet" else []
        return out

    def stop(self, host: str) -> None:
        """Kill everything on a host."""
        end = time.monotonic() + START_SECONDS
        while (running := self.processes(host)) and time.monotonic() < end:
            for pid in running:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.2)
        if host in self._raylets:
            self._raylets.pop(host).wait()


@contextmanager
def hosts(workers: int) -> Iterator[Hosts]:
    """A running cluster of a head and so many other hosts; nothing of it is left afterwards."""
    made = Hosts(workers)
    try:
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("link", "set", BRIDGE, "up")
        for i, name in enumerate(made.names):
            ip("netns", "add", name)
            ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", name, "master", BRIDGE, "up")
            ip("-n", name, "addr", "add", f"{NETWORK}.{i + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        for name in made.names:
            made.start(name)
        yield made
    finally:
        for name in made.names:
            made.stop(name)
            subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", BRIDGE], check=False)


def ip(*words: str) -> None:
    """`ip` of iproute2."""
    subprocess.run(["ip", *words], check=True)
