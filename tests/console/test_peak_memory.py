"""Peak memory: KiB on Linux, bytes on macOS, nothing on Windows."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports no peak memory")
def test_peak_memory_grows_with_allocations() -> None:
    before = peak_bytes()
    assert before is not None and 5e6 < before < 1e12
    held = np.ones(before + 50_000_000, np.uint8)
    after = peak_bytes()
    assert after is not None and after >= before + 40_000_000
    del held


def test_no_resource_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_bytes() is None


def test_no_module_requires_resource_on_import() -> None:
    """As on Windows: everything imports, models too."""
    code = (
        "import sys\nsys.modules['resource'] = None\n"
        "import thresher.cli, thresher.api, thresher.selection.select, thresher.compare, "
        "thresher.doctor, thresher.console.peak_memory\n"
        "import thresher.backends.hf.backend, thresher.backends.hf.load"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
