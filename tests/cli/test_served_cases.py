"""Reported cases of faulty servers: each case's command and expected result. Skipped where the
cases are absent."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from thresher import cli

CASES = Path(__file__).parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(
    not CASES.is_dir(), reason="the fault cases (../shared/cases) are not here"
)
WRITTEN = ("--set", "score=generate")


@pytest.fixture
def mock(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The URL of a case's server in a mode: `(folder, mode)`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    folder, mode = request.param
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, CASES / folder / "mock.py", str(port), mode], cwd=tmp_path
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


def run(capsys: pytest.CaptureFixture[str], folder: str, url: str, *words: str) -> tuple[int, str]:
    case = CASES / folder
    small = (case / "small.json").exists()
    pool, images = (
        case / ("small.json" if small else "pool.json"),
        case / ("images2" if small else "images"),
    )
    command = [
        "select",
        str(pool),
        "--images",
        str(images),
        "--method",
        "mmssr",
        "--budget",
        "4",
        "--set",
    ]
    command += [
        "capabilities=ocr",
        "--backend",
        "openai",
        "--url",
        url,
        "--out",
        "o",
        "--store",
        "s",
        *words,
    ]
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out + printed.err


ROWS, PROSE, WORDS, SAME, REST = (
    next((p.name for p in CASES.glob(f"{number}-*")), number)
    for number in ("16", "17", "19", "20", "21")
)


@pytest.mark.parametrize(
    ("mock", "words", "code", "says"),
    [
        (
            (ROWS, "small500"),
            ("--on-missing", "exclude"),
            0,
            "12 x server: given up after 6 tries: HTTP 500: height:26 and width",
        ),
        ((PROSE, "gen_label"), WRITTEN, 0, "(4.000)"),
        ((PROSE, "gen_scale"), WRITTEN, 2, "10 of 10 answers give no clear number"),
        ((WORDS, "err200"), (), 1, "image too large for upstream"),
        ((WORDS, "lpvaluenull"), (), 0, "Kept 4 of 10"),
        ((SAME, "temp1"), (), 0, "requests go without it"),
        ((REST, "redirect"), (), 0, "Kept 4 of 10"),
        ((REST, "reasoning"), WRITTEN, 1, "the answer consists of the model's reasoning"),
    ],
    indirect=["mock"],
    ids=lambda value: value[1] if isinstance(value, tuple) and len(value) == 2 else "",
)
def test_a_case(
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    mock: str,
    words: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    folder = request.node.callspec.params["mock"][0]
    found, printed = run(capsys, folder, mock, "--model", "m1", *words)
    assert found == code and says in printed, printed


@pytest.mark.parametrize("mock", [(REST, "models404"), (REST, "models_list")], indirect=True)
def test_a_server_without_a_list_of_models(capsys: pytest.CaptureFixture[str], mock: str) -> None:
    code, printed = run(capsys, REST, mock)
    assert code == 1 and "does not say which models it has" in printed and "Name one" in printed
