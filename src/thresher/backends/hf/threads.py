"""Environment variables of the numerical libraries. They must be set before torch is imported, so
this module imports nothing heavy."""

from __future__ import annotations

import os


def limit_idle_threads() -> None:
    """Stop idle OpenMP threads from spinning, which slows down a busy machine many times."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
