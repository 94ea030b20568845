"""Fine-tuning a multimodal LLM on chosen rows, so that selections can be judged by what they teach:
TRL, PEFT, and losses on answers only. Nobody is forced to train here: `thresher export` writes rows
for other trainers.
"""

from thresher.training.batches import UnusableRow
from thresher.training.fit import TrainingResult, fit, rows_fingerprint
from thresher.training.recipe import Recipe

__all__ = ["Recipe", "TrainingResult", "UnusableRow", "fit", "rows_fingerprint"]
