"""Broken environments (no home, deleted working directory, …) give one message, no traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer

from thresher.cli.guard import handle_errors
from thresher.errors import ConfigError
from thresher.selection.config import default_store


def test_missing_home_and_unknown_user_id(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("THRESHER_STORE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(ConfigError, match="`store`"):
        default_store()
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_store() == Path("/somewhere/thresher")


@pytest.mark.parametrize("name", [b"o\xff\xfe", b"\xf6ffentlich"])
def test_file_name_that_is_not_utf8(name: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    @handle_errors
    def command() -> None:
        os.fsencode("x") + os.fsdecode(name).encode("utf-8")

    with pytest.raises(typer.Exit) as ended:
        command()
    assert ended.value.exit_code == 1 and "is not UTF-8" in capsys.readouterr().err


def test_deleted_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "gone"
    missing.mkdir()
    monkeypatch.chdir(missing)
    missing.rmdir()

    @handle_errors
    def command() -> None:
        os.path.realpath("pool.json")

    with pytest.raises(typer.Exit):
        command()
    assert "working directory no longer exists" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
