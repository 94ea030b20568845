"""Virtual environments of the peers, one each: their requirements contradict each other.

Each sees the project's packages, too (a path file), so that only what is missing or has another
version is installed; nothing of the project's environment is changed.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
SECONDS = 1500  # to install a peer
FAILED = "not_installed.txt"  # in the folder of an environment: why
_OPTIONS = "# pip: "  # beginning of a requirements file that needs options of pip


def names() -> list[str]:
    return sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def install(name: str, environments: Path) -> str:
    """Make the environment of a peer; why it could not be made, "" if it was.

    Arguments:
        name: stem of its requirements file.
        environments: folder of all environments.
    """
    folder, file = environments / name, REQUIREMENTS / f"{name}.txt"
    (folder / FAILED).unlink(missing_ok=True)
    venv.create(folder, clear=True)
    python = python_of(folder)
    site = subprocess.check_output(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    (Path(site.strip()) / "project.pth").write_text(sysconfig.get_path("purelib") + "\n")
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    options = first.removeprefix(_OPTIONS).split() if first.startswith(_OPTIONS) else []
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    reason = ""
    try:
        done = subprocess.run(
            [*command, *options, "-r", str(file)], text=True, capture_output=True, timeout=SECONDS
        )
        if done.returncode:
            reason = last_error(done.stderr)
    except subprocess.TimeoutExpired:
        reason = f"pip took longer than {SECONDS:,} s"
    if reason:
        (folder / FAILED).write_text(reason + "\n", encoding="utf-8")
    return reason


def last_error(output: str) -> str:
    """The last line of pip's output that says what is wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("WARNING: ")]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip failed"])[-1]


def missing(name: str, environments: Path) -> str:
    """Why the environment of a peer cannot be used; "" if it can.

    Arguments:
        name: stem of its requirements file.
        environments: folder of all environments.
    """
    folder = environments / name
    if (folder / FAILED).exists():
        return (folder / FAILED).read_text(encoding="utf-8").strip()
    return "" if python_of(folder).exists() else "`--install` has not been run"
