"""Where the benchmark reads and writes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"


def cache_folder() -> Path:
    """The default of `--out`: outside the repository, since the weights are third-party."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "thresher" / "real"


def data_folder(given: Path, name: str) -> Path:
    """`given`/`name`; exits with a message if it is missing."""
    folder = given / name
    if not folder.is_dir():
        sys.exit(
            f"{folder} does not exist. The pictures are not part of the repository: give the "
            "folder that contains real/ and real_base/ with --data."
        )
    return folder


def outside_repository(out: Path) -> Path:
    """`out` as an absolute path; exits with a message if it is tracked by the repository."""
    out = out.expanduser().resolve()
    if out.is_relative_to(ROOT) and not out.is_relative_to(ROOT / "out"):
        sys.exit(f"--out {out} is inside the repository. Give a folder outside, or below out/.")
    return out
