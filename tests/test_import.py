"""`import thresher` and starting the command line import nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "transformers",
    "tokenizers",
    "pyarrow",
    "PIL",
    "ray",
    "vllm",
    "safetensors",
    "huggingface_hub",
)


def loaded_by(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after `statement`."""
    code = (
        f"import sys\n{statement}\nprint('\\n'.join(sorted({{m.partition('.')[0] for m in "
        "sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import thresher",
        "from thresher import *",
        "import thresher.types, thresher.errors, thresher.fingerprint, thresher.request, "
        "thresher.console.progress",
        "import thresher.methods, thresher.signals, thresher.samplers",
        "import thresher.cli",
        "import thresher.demo",
    ],
)
def test_nothing_heavy_is_loaded(statement: str) -> None:
    assert not loaded_by(statement).intersection(HEAVY)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["methods"], ["select", "--help"]]
)
def test_light_commands_load_nothing_heavy(arguments: list[str]) -> None:
    statement = (
        "import contextlib, io, thresher.cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    thresher.cli.main({arguments!r})"
    )
    assert not loaded_by(statement).intersection(HEAVY)
