"""`thresher view`: refusals before it listens, its address, and how it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.report.image_pools import selected
from tests.viewer.sessions import pool_of
from thresher.cli import main
from thresher.errors import ConfigError, MissingExtra
from thresher.viewer import serve


def code_of(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["view", *words])
    return int(stop.value.code or 0)


def test_invalid_selection_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(str(tmp_path)) == 2
    captured = capsys.readouterr()
    assert "not a finished selection" in captured.err and not captured.out
    assert code_of(str(tmp_path / "absent")) == 2 and code_of(str(tmp_path), "--port", "70000") == 2


@pytest.mark.parametrize("name", ["starlette", "uvicorn"])
def test_a_missing_package_comes_with_its_install_command(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"needs " + name + r'.*pip install "thresher\[view\]"'):
        serve.view("anywhere", 0, False, print)


def test_port_in_use_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port={port}: Address already in use"):
            serve.listen(port)
        assert code_of(str(tmp_path), "--port", str(port)) == 2


def test_it_listens_on_this_machine_only() -> None:
    with serve.listen(0) as made:
        assert made.getsockname()[0] == "127.0.0.1"


def test_importing_the_command_line_imports_no_web_server() -> None:
    code = (
        "import sys, thresher.cli; sys.exit(any(m in sys.modules for m in ('starlette', "
        "'uvicorn', 'thresher.viewer')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_server_stops_quietly(tmp_path: Path, stop: signal.Signals) -> None:
    folder = selected(pool_of(tmp_path / "pool", 30), "length", tmp_path / "out")
    process = subprocess.Popen(
        [sys.executable, "-m", "thresher", "view", str(folder), "--no-open"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    try:
        origin, _, token = address.partition("/#token=")
        request = urllib.request.Request(
            f"{origin}/page", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            page, data = json.loads(answer.read()), {name.lower() for name in answer.headers}
        assert 'id="slider"' in page["html"] and page["rows"] == 30
        assert not {"set-cookie", "server"} & data
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{origin}/page", timeout=20)
    finally:
        process.send_signal(stop)
        out, err = process.communicate(timeout=30)
    assert out == "" and "Traceback" not in err and err.count("\n") == 2  # the two notes
    assert process.returncode == (0 if stop == signal.SIGINT else -stop)
