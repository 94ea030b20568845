"""Peak memory: KiB on Linux, bytes on macOS, nothing on Windows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import thresher
from tests.warm_process import WarmServer
from thresher.console.peak_memory import in_bytes, peak_bytes


@pytest.mark.parametrize(
    ("maxrss", "platform", "expected"),
    [
        (1, "linux", 1024),
        (150_000, "linux", 153_600_000),
        (150_000, "freebsd14", 153_600_000),
        (1, "darwin", 1),
        (153_600_000, "darwin", 153_600_000),
    ],
)
def test_units(maxrss: int, platform: str, expected: int) -> None:
    assert in_bytes(maxrss, platform) == expected


GROWS = """
import numpy as np
from thresher.console.peak_memory import peak_bytes
before = peak_bytes()
held = np.ones(before + 50_000_000, np.uint8)
print(before, peak_bytes())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports no peak memory")
def test_peak_memory_grows_with_allocations(warm: WarmServer) -> None:
    """In a process that holds little beforehand."""
    before, after = map(int, warm.run(code=GROWS).stdout.split())
    assert 5e6 < before < 1e12
    assert after >= before + 40_000_000


def test_no_resource_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_bytes() is None


def test_no_module_requires_resource_on_import() -> None:
    """As on Windows. Modules that need torch are read only: importing it takes seconds."""
    code = (
        "import sys\nsys.modules['resource'] = None\n"
        "import thresher.cli, thresher.api, thresher.selection.select, thresher.compare, "
        "thresher.doctor, thresher.console.peak_memory\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = sorted(Path(thresher.__path__[0]).rglob("*.py"))
    assert len(files) > 300
    for file in files:
        found = re.search(r"^(import|from) resource\b", file.read_text("utf-8"), re.MULTILINE)
        assert not found, file
