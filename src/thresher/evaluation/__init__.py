"""How well a model answers: exact match, likelihood of candidates, ANLS and relaxed accuracy, each with its interval."""

from thresher.evaluation.evaluator import SCORES, evaluate
from thresher.evaluation.report import Evaluation, Group

__all__ = ["SCORES", "Evaluation", "Group", "evaluate"]
