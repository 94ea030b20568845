"""The built-in demo: a synthetic world of rendered images, and the tiny vision-language model
trained on it (`--model demo`).

Importing this package does not import torch, transformers or PIL; its modules do if they need them.
"""

from pathlib import Path

MODEL_FOLDER: Path = Path(__file__).parent / "model"

__all__ = ["MODEL_FOLDER"]
