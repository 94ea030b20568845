"""What the base model's training does: one frozen `Plan`. Another plan is another cached base.

The sizes are limited by time: a pass of stage 2 takes about two CPU-hours on a CPU that multiplies
bf16, and four are allowed in all. The rates are common ones. Nothing was tuned on the questions
that judge methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Plan:
    kind: ClassVar[str] = "real_base_plan"
    version: ClassVar[int] = 1

    answers: Literal["sentences", "short"] = "sentences"
    """Form of the base's answers, see `sentences.py`."""
    pictures: int | None = None
    """Only the first ones, for a trial; None: all."""
    word_steps: int = 1500
    """Steps of stage 0, of `word_batch` pictures."""
    word_batch: int = 64
    word_rate: float = 1e-3
    projector_passes: float = 0.25
    """Passes of stage 1 over the pictures."""
    projector_rate: float = 5e-4
    passes: float = 0.6
    """Passes of stage 2 over the pictures."""
    rate: float = 5e-4
    """Of stage 2, for adapters and projector."""
    lora_rank: int = 32
    batch: int = 32
    """Pictures per step of stages 1 and 2."""
    precision: Precision = "fp32"
    """bf16: the frozen language model in bf16; what is trained stays in fp32."""
    seed: int = 0


def quicker_precision() -> Precision:
    """The precision in which this machine multiplies matrices faster; measured, since some CPUs
    emulate bf16."""
    import time

    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    seconds = {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.ones(512, 576, dtype=dtype), torch.ones(1536, 576, dtype=dtype)
        torch.nn.functional.linear(a, b)
        start = time.process_time()
        for _ in range(20):
            torch.nn.functional.linear(a, b)
        seconds[precision] = time.process_time() - start
    return "bf16" if seconds["bf16"] < 0.8 * seconds["fp32"] else "fp32"
