"""The built-in demonstration: a rendered toy world and the tiny vision-language model trained on it
(`--model demo`).

Importing this package imports neither torch, transformers nor PIL; the modules below it do, where
they need them.
"""

from pathlib import Path

MODEL_FOLDER: Path = Path(__file__).parent / "model"

__all__ = ["MODEL_FOLDER"]
