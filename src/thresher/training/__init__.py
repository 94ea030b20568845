"""Fine-tunes a multimodal LLM on selected rows, so that selections can be compared by their effect:
TRL, PEFT, and losses on answers only. For other trainers, `thresher export` writes the rows.
"""

from thresher.training.batches import UnusableRow
from thresher.training.fit import TrainingResult, fit, rows_fingerprint
from thresher.training.recipe import Recipe

__all__ = ["Recipe", "TrainingResult", "UnusableRow", "fit", "rows_fingerprint"]
