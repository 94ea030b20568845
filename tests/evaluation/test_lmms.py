"""lmms-eval in a separate process, with a fake command that writes the same files."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from thresher.errors import ConfigError, MissingExtra, ModelError
from thresher.evaluation import lmms

STAND_IN = """#!{python}
import json, pathlib, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
print("a line that must not reach our stdout")
if "broken" in given["--tasks"]:
    sys.exit(3)
if "silent" in given["--tasks"]:
    sys.exit(0)
folder = pathlib.Path(given["--output_path"]) / "some__model"
folder.mkdir(parents=True, exist_ok=True)
one = {{"acc,none": 0.5, "acc_stderr,none": "N/A", "anls,none": 0.25, "samples": 9}}
results = {{t: {{"alias": t, **one}} for t in given["--tasks"].split(",")}}
(folder / "20250101_000000_results.json").write_text(json.dumps({{"results": results, "seen": sys.argv[1:]}}))
"""  # noqa: E501


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "bin" / "lmms-eval"
    script.parent.mkdir()
    script.write_text(STAND_IN.format(python=sys.executable))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    return script


def test_missing_lmms_eval_is_reported_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pipx install lmms-eval"):
        lmms.find_command()


def test_results_are_read(
    installed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    given = lmms.model_arguments("m", tmp_path / "model", "qwen2_5_vl", None)
    assert given == ["--model", "qwen2_5_vl", "--model_args", f"pretrained={tmp_path / 'model'}"]
    found = lmms.run_tasks(given, "mme,ai2d", tmp_path / "out")
    assert found == {t: {"acc": 0.5, "anls": 0.25} for t in ("mme", "ai2d")}
    assert capfd.readouterr().out == ""


def test_a_second_run_reads_its_own_results(installed: Path, tmp_path: Path) -> None:
    old = tmp_path / "out" / "other" / "9_results.json"
    old.parent.mkdir(parents=True)
    old.write_text('{"results": {"stale": {"acc,none": 1.0}}}')
    assert list(lmms.run_tasks(["--model", "llava_hf"], "mme", tmp_path / "out")) == ["mme"]


@pytest.mark.parametrize(
    ("task", "message"), [("broken", "code 3"), ("silent", "wrote no results")]
)
def test_failure_is_reported(installed: Path, tmp_path: Path, task: str, message: str) -> None:
    with pytest.raises(lmms.LmmsEvalFailed, match=message):
        lmms.run_tasks(["--model", "llava_hf"], task, tmp_path / "out")


def test_unsupported_models_are_refused(tmp_path: Path) -> None:
    assert (
        lmms.model_arguments("org/name@abc", None, "llava", None)[-1]
        == "pretrained=org/name,revision=abc"
    )
    assert lmms.model_arguments("org/name", None, "brand_new", "huggingface")[1] == "huggingface"
    with pytest.raises(ConfigError, match="lmms_eval_model"):
        lmms.model_arguments("org/name", None, "brand_new", None)
    with pytest.raises(ModelError, match="adapter"):
        lmms.model_arguments("folder", tmp_path, "llava", None)
