"""Commands run in this process, in a folder with a pool and a validation set."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.targeted_commands import Command
from tests.text_pools import record, write_pool
from tests.validation_sets import validation
from thresher import cli


@pytest.fixture
def command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Runs a command where pool.json has 60 rows and val.json 18."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))
    write_pool(tmp_path / "pool.json", [record(i) for i in range(60)])
    write_pool(tmp_path / "val.json", validation(18))

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(list(words))
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call
