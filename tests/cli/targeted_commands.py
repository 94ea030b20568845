"""Commands of an error-driven selection, and how a command ends: (exit code, stdout, stderr)."""

from __future__ import annotations

from collections.abc import Callable

Command = Callable[..., tuple[int, str, str]]
BASE = ("select", "pool.json", "--method", "error_driven", "--model", "pupil", "--budget", "9")
AIMED = (*BASE, "--validation", "val.json")
