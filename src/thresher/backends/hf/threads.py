"""Environment of the numerical libraries; must be set before torch is imported, so this file
imports nothing heavy."""

from __future__ import annotations

import os


def quiet_threads() -> None:
    """Idle OpenMP threads that spin make a busy machine many times slower."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
