"""A model that two processes need is trained once: the second waits with a message; a killed
process releases the lock."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.fake_training import FakeTraining
from tests.text_pools import record, write_pool
from tests.tiny_models import build
from tests.training import colour_pools as pictures
from tests.warm_process import WarmProcess, WarmServer
from thresher.console.progress import BarProgress, LineProgress, NoProgress, Progress
from thresher.errors import StoreError
from thresher.storage.lock import NAME, file_lock, folder_lock

TOO_LONG = 300.0  # seconds, on a machine that is busy

FAKE = """
import sys
from pathlib import Path
from tests.fake_training import FakeTraining
from tests.text_pools import Model
from tests import runs as run
from thresher.methods.mllm_selector import MllmSelector
from thresher.pools import open_pool
from thresher.console.progress import LineProgress
from thresher.storage.columns import Store
from thresher.training.registry import Trainer
from thresher.types import Budget

folder = Path(sys.argv[1])
training = FakeTraining(folder / "trainings")

def fit(*args, **kwargs):
    print("trains", flush=True)
    sys.stdin.readline()
    return training.fit(*args, **kwargs)

out = run.select(
    open_pool(folder / "pool.json"), MllmSelector(), Budget.parse("30%"), model=Model().handle, store=Store(folder / "store"),
    trainer=Trainer(fit, training.open, "cpu"), progress=LineProgress(),
)
print("rows", out.rows.tolist(), flush=True)
"""  # noqa: E501

REAL = """
import sys
from pathlib import Path
from tests import runs as run
from thresher.backends import resolve
from thresher.methods.mllm_selector import MllmSelector
from thresher.pools import open_pool
from thresher.console.progress import LineProgress
from thresher.storage.columns import Store
from thresher.training.registry import make_trainer
from thresher.types import Budget

folder, base = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
out = run.select(
    open_pool(folder / "pool.json"), MllmSelector(seed_fraction=0.5), Budget.parse("30%"), model=resolve(base, device="cpu"),
    store=Store(folder / "store"), trainer=make_trainer(device="cpu"), progress=LineProgress(),
)
print("rows", out.rows.tolist(), flush=True)
"""  # noqa: E501


Process = WarmProcess | subprocess.Popen[str]


def watched(process: Process) -> Process:
    # a lock that is broken fails a test, it does not hang it
    watchdog = threading.Timer(TOO_LONG, process.kill)
    watchdog.daemon = True
    watchdog.start()
    return process


def line(process: Process) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def go(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def wait_for(process: subprocess.Popen[str], words: str) -> str:
    """Read its stderr up to the line with these words."""
    assert process.stderr is not None
    for result in process.stderr:
        if words in result:
            return result
    raise AssertionError(f"it ended without saying {words!r}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pool(tmp_path / "pool.json", [record(i) for i in range(60)])
    return tmp_path


def test_second_process_waits_and_reuses(folder: Path, warm: WarmServer) -> None:
    first = watched(warm.start(FAKE, folder))
    assert line(first) == "trains\n"
    second = watched(warm.start(FAKE, folder))
    text = wait_for(second, "Waiting for")
    (held,) = (folder / "store" / "models").glob("*.lock")
    assert text == f"Waiting for another process that trains the same model; it holds {held}.\n"
    go(first)
    (a, _), (b, _) = first.communicate(), second.communicate()
    assert first.returncode == second.returncode == 0
    assert a.startswith("rows [") and a == b  # the second never trained
    assert len(FakeTraining(folder / "trainings").calls()) == 1


def test_killed_owner_releases_the_lock(folder: Path, warm: WarmServer) -> None:
    first = watched(warm.start(FAKE, folder))
    assert line(first) == "trains\n"
    second = watched(warm.start(FAKE, folder))
    wait_for(second, "Waiting for")
    first.kill()
    assert first.wait() == -signal.SIGKILL
    assert line(second) == "trains\n"
    go(second)
    assert line(second).startswith("rows [")
    assert second.wait() == 0
    assert len(FakeTraining(folder / "trainings").calls()) == 1
    # the second removed what the first left behind
    assert not list((folder / "store" / "models").glob("*.lock"))


@pytest.mark.slow
def test_two_processes_that_train_a_tiny_model_at_once(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    pictures.pool_of(tmp_path, [pictures.record(i) for i in range(40)])
    both = [
        watched(
            subprocess.Popen(
                [sys.executable, "-c", REAL, tmp_path, build("llava")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        for _ in range(2)
    ]
    assert [line(p) for p in both] == ["ready\n"] * 2
    for p in both:
        go(p)
    (a, told_a), (b, told_b) = (p.communicate() for p in both)
    assert [p.returncode for p in both] == [0, 0], told_a + told_b
    assert a == b and a.startswith("rows [")
    (model,) = (tmp_path / "store" / "models").glob("*/training.json")
    assert (told_a + told_b).count("Waiting for another process") == 1
    assert model.parent.with_suffix(".json").exists() and not (model.parent / ".training").exists()


class Unheard(NoProgress):
    def say(self, text: str) -> None:
        raise AssertionError(text)


def test_uncontended_lock_is_silent_and_released_on_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), file_lock(tmp_path / "a.lock", "divides", Unheard()):
            1 / 0  # noqa: B018


def test_lock_file_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(
            StoreError, match=r"a\.lock cannot be locked: .* Give a folder that you may write to"
        ),
        file_lock(tmp_path / "file" / "a.lock", "waits"),
    ):
        raise AssertionError("it was not locked")


def test_progress_message(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    stream, drawn = io.StringIO(), io.StringIO()
    kinds: list[Progress] = [
        LineProgress(stream),
        BarProgress(Console(file=drawn, width=20)),
        NoProgress(),
    ]
    for progress in kinds:
        progress.say("Waiting for [it], a rather long line.")
    assert stream.getvalue() == drawn.getvalue() == "Waiting for [it], a rather long line.\n"
    assert capsys.readouterr() == ("", "")


def test_permission_denied_is_not_contention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import fcntl

    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(fcntl, "flock", denied)
    with pytest.raises(StoreError, match="cannot be locked: Permission denied"):  # noqa: SIM117
        with file_lock(tmp_path / "a.lock", "waits", Unheard()):
            raise AssertionError("it was not locked")


def test_lock_is_reentrant_per_thread(tmp_path: Path) -> None:
    with (
        file_lock(tmp_path / "a.lock", "works", Unheard()),
        file_lock(tmp_path / "a.lock", "works", Unheard()),
    ):
        assert (tmp_path / "a.lock").exists()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_made_for_a_lock_stays_only_if_it_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "deep"
    with folder_lock(folder, "writes here"):
        assert folder.is_dir()
    assert not (tmp_path / "new").exists()
    with pytest.raises(KeyError), folder_lock(folder, "writes here"):
        raise KeyError
    assert not (tmp_path / "new").exists()
    with folder_lock(folder, "writes here"):
        (folder / "file").write_text("")
    assert [path.name for path in folder.iterdir()] == ["file"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with folder_lock(empty, "writes here"):
        pass
    assert empty.is_dir()  # it was there before


def test_a_lock_whose_folder_is_removed_meanwhile_is_taken_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    waiting, got = threading.Event(), threading.Event()

    class Says(NoProgress):
        def say(self, text: str) -> None:
            waiting.set()

    def wait() -> None:
        with folder_lock(folder, "writes here", Says()):
            got.set()

    with folder_lock(folder, "writes here"):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(TOO_LONG)
    thread.join(TOO_LONG)
    assert got.is_set()
    # the folder itself may stay: whoever finds it before its owner removes it did not create it
    assert not (folder / NAME).exists()
