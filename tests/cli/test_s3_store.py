"""Pool, images and store on an S3 server, which is away for a while in the middle of a run. Skipped
without moto and s3fs (the extra `slow`)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks import sleeping_adapter
from PIL import Image

from tests.text_pools import record, write_pool

pytest.importorskip("torch")
s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed (the extra `slow`)")
moto_server = pytest.importorskip("moto.server", reason="moto is not installed (the extra `slow`)")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ROWS, SECONDS, AWAY = 300, 0.1, 25.0
FILES = ("subset.json", "selection.parquet", "evidence.parquet")
STORE = "s3://scores/team one"


class Gate:
    """Forwards connections to a server, or refuses them while it is shut."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.sockets: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self._serve()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def shut(self) -> None:
        """Cut all connections and accept no new ones."""
        for one in (self.listener, *self.sockets):
            for end in (lambda s: s.shutdown(socket.SHUT_RDWR), lambda s: s.close()):
                try:
                    end(one)
                except OSError:
                    pass
        self.sockets = []

    def open(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self._serve()

    def _serve(self) -> None:
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(self.target)
            except OSError:
                return
            self.sockets += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=pair, daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A server with two buckets, behind a gate; the environment names it."""
    server = moto_server.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    gate = Gate(*server.get_host_and_port())
    for name, value in {
        "AWS_ENDPOINT_URL": gate.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(f"{gate.url}/moto-api/reset", data=b"").close()
    fs = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    for bucket in ("data", "scores"):
        fs.mkdir(bucket)
    yield gate
    gate.shut()
    server.stop()


class Job:
    """A folder with a pool and a model that sleeps; commands run in it, each "machine" with its own
    caches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pool" / "images").mkdir(parents=True)
        for i in range(3):
            colour = (80 * i, 40, 90)
            Image.new("RGB", (24, 16), colour).save(folder / "pool" / "images" / f"{i}.png")
        rows = [record(i, f"images/{i % 3}.png" if i % 2 else None) for i in range(ROWS)]
        write_pool(folder / "pool" / "pool.json", rows)
        shutil.copy(sleeping_adapter.__file__, folder)
        sleeping_adapter.write_model(folder / "model", SECONDS)

    def select(self, pool: str, store: str, out: str, budget: str = "10%") -> subprocess.Popen[str]:
        adapter = "sleeping_adapter:SleepingAdapter"  # in the working directory
        command = f"select {pool}/pool.json --images {pool} -m perplexity -b {budget} --model model"
        words = [*command.split(), "--adapter", adapter, "--store", store, "-o", out]
        return start(self.folder, out, *words)

    def run(self, *words: str, machine: str = "laptop") -> str:
        return end(start(self.folder, machine, *words))

    def files(self, out: str) -> dict[str, bytes]:
        return {name: (self.folder / out / name).read_bytes() for name in FILES}

    def scored(self) -> list[str]:
        return [line["row"] for line in sleeping_adapter.scored_rows(self.folder / "model")]

    def wait_for(self, rows: int) -> None:
        deadline = time.monotonic() + 300
        while len(self.scored()) < rows:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def start(folder: Path, machine: str, *words: str) -> subprocess.Popen[str]:
    """Starts a command in a folder, with the caches of a machine."""
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-m", "thresher", *words],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "XDG_CACHE_HOME": str(folder / machine),
            "OMP_NUM_THREADS": "1",
        },
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> str:
    """Waits until it has ended well; what it wrote."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out + err


def test_two_processes_one_of_them_killed_and_a_server_that_is_away(
    gate: Gate, tmp_path: Path
) -> None:
    job = Job(tmp_path)
    end(job.select("pool", "local", "alone"))
    before = len(job.scored())
    assert before == ROWS
    s3fs.S3FileSystem(use_listings_cache=False).put(
        str(job.folder / "pool"), "data/pool", recursive=True
    )

    doomed = job.select("s3://data/pool", STORE, "one")
    other = job.select("s3://data/pool", f"{STORE}/", "two")
    job.wait_for(before + 60)
    os.kill(doomed.pid, signal.SIGKILL)
    doomed.communicate()
    gate.shut()
    time.sleep(AWAY)
    gate.open()
    text = end(other)
    assert "does not answer" in text and job.files("two") == job.files("alone")
    times = Counter(job.scored()[before:])
    assert len(times) == ROWS and sum(times.values()) < 2 * ROWS

    after = len(job.scored())
    assert "0 scored" in end(job.select("s3://data/pool", STORE, "one"))
    assert job.files("one") == job.files("alone")
    assert "0 scored" in end(job.select("s3://data/pool", STORE, "three", "20%"))
    assert len(job.scored()) == after

    (column,) = json.loads(job.run("store", "ls", "--json", "--store", STORE))
    assert column["kind"] == "answer_loss" and column["rows"] >= ROWS
    assert json.loads(job.run("store", "du", "--json", "--store", STORE))["columns"] > 0
    assert "export" not in job.run("store", "gc", "--store", STORE)
    job.run("store", "export", "scores.tar", "--store", STORE)
    assert "1 column" in job.run("store", "import", "scores.tar", "--store", "s3://scores/copy")
    assert "0 scored" in end(job.select("pool", "s3://scores/copy", "four"))
    assert job.files("four") == job.files("alone")


@pytest.mark.parametrize(
    ("store", "environment", "expected"),
    [
        ("s3://", {}, "names no folder"),
        ("s3://absent/a", {}, "bucket does not exist"),
        ("s3://scores/a", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Could not connect"),
        ("s3://scores/../a", {}, "names no folder"),
        ("s3://Bad_Bucket!/a", {}, "Invalid bucket name"),
        ("s3://scores/a", {"AWS_PROFILE": "absent"}, "Check your credentials"),
        ("s3://scores/a", {}, "nothing has been stored there yet"),
    ],
)
def test_a_store_that_cannot_be_used_is_refused_at_once(
    gate: Gate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    store: str,
    environment: dict[str, str],
    expected: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    process = start(tmp_path, "laptop", "store", "ls", "--store", store)
    _, err = process.communicate(timeout=120)
    assert process.returncode in (1, 2) and expected in err, err
    assert "Traceback" not in err and len(err.splitlines()) == 1
