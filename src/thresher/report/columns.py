"""Titles, units and directions of the columns of reasons, for display."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Meaning:
    """Display metadata of a column of reasons."""

    title: str
    unit: str = ""
    direction: str = ""
    short: str = ""  # short name; "" = the title in lower case
    drawn: bool = True  # whether its distribution is worth plotting

    @property
    def brief(self) -> str:
        """A short name in lower case."""
        return self.short or self.title.lower()

    @property
    def axis(self) -> str:
        """The title of an axis, with the unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


_NATS = "nats per token"
KNOWN: dict[str, Meaning] = {
    "nll": Meaning(
        "Log-perplexity of the answer",
        _NATS,
        "higher: the answer surprises the model more",
        "log-perplexity",
    ),
    "nll_one_shot": Meaning(
        "Log-perplexity after a demonstration",
        _NATS,
        "higher: more surprising",
        "after a demonstration",
    ),
    "effect": Meaning(
        "Effect of a demonstration", _NATS, "above 0: the answer becomes likelier", "effect"
    ),
    "necessity": Meaning(
        "Necessity: loss under the seed model",
        _NATS,
        "higher: still hard after the seed rows",
        "necessity",
    ),
    "knowledge": Meaning("Knowledge", "", "P: the model already knows the answer; W: it does not"),
    "subset": Meaning("Subset", "", "P or W, and d (demonstrations) or q (queries)"),
    "bin": Meaning("Bin of log-perplexity", "", "0: least surprising", "bin"),
    "critical": Meaning("Taken by preference", short="preferred"),
    "group": Meaning("Group of necessity", "", "0: least needed; −1: in no group", "group"),
    "seed_row": Meaning("Seed row"),
    "held": Meaning("Held back as suspected noise", short="held back"),
    "source": Meaning("Source"),
    "capability": Meaning("Capability"),
    "score": Meaning("Score", "", "higher: worth more"),
    "style": Meaning("Interaction style"),
    "loss": Meaning("Loss", _NATS, "higher: the answer surprises the model more"),
    "seed_loss": Meaning("Loss under the seed models", _NATS, "higher: more surprising"),
    "round_loss": Meaning("Loss under the last round's models", _NATS, "higher: more surprising"),
    "image_gain": Meaning(
        "Visual gain", _NATS, "above 0: the image or video makes the answer more likely"
    ),
    "skill": Meaning("Skill", drawn=False),
    "loss_rank": Meaning("Loss rank", "", "1: the lowest loss of the skill", drawn=False),
    "skill_rows": Meaning("Skill rows", drawn=False),
    "skill_quota": Meaning("Skill quota", drawn=False),
    "round": Meaning("Turn", "", "−1: not taken", drawn=False),
    "teacher_sample": Meaning("Teacher's sample"),
    "validation_row": Meaning("Validation row", "", "−1: retrieved for none", drawn=False),
    "mistaken_step": Meaning("Mistaken step", drawn=False),
    "missing_skill": Meaning("Missing skill"),
    "search_rank": Meaning("Rank in the search", "", "0: best; −1: not retrieved", drawn=False),
    "search_score": Meaning("Fit to the search", "", "higher: fits better"),
    "skills": Meaning("Skills of the row", drawn=False),
    "skill_group": Meaning("Group of skills"),
    "suspicion": Meaning(
        "Suspicion of a wrong answer", "", "higher: the answer is more likely wrong", "suspicion"
    ),
    "answer_loss": Meaning(
        "Loss of the answer", _NATS, "higher: the answer surprises the model more", "loss"
    ),
    "answer_tokens": Meaning("Length of the answer", "tokens", short="answer tokens"),
    "greedy_match": Meaning("The model gives this answer itself", short="given by the model"),
    "entropy": Meaning("Entropy before answer tokens", "nats", "higher: less decided", "entropy"),
    "own_answer_gap": Meaning(
        "Gap to the model's own answer", _NATS, "higher: it would rather say something else", "gap"
    ),
    "visual_gain": Meaning(
        "Visual gain", _NATS, "below 0: the image or video speaks against the answer", "visual gain"
    ),
}


def meaning(name: str, settings: Mapping[str, Any]) -> Meaning:
    """Metadata of a column of reasons; for an unknown name, derived from the name.

    Arguments:
        name: of the column.
        settings: of the method.
    """
    if name == "length":
        return Meaning(
            "Answer length", "characters" if settings.get("unit") == "chars" else "words"
        )
    if name.startswith(("score_", "teacher_")) and name not in KNOWN:
        what = (
            name.replace("score_", "score: ", 1)
            .replace("teacher_", "teacher's score: ", 1)
            .replace("_", " ")
        )
        return Meaning(what.capitalize(), "0 to 5", "higher: worth more", short=what)
    return KNOWN.get(name, Meaning(name.replace("_", " ").capitalize()))


def is_number(values: np.ndarray) -> bool:
    """Whether a column is numeric, so that its distribution is plotted instead of counts."""
    return values.dtype.kind in "iuf"


def constant(values: np.ndarray) -> bool:
    """Whether all rows have the same value."""
    if values.dtype.kind == "f":
        values = values[~np.isnan(values)]
    return len(values) > 1 and bool(np.all(values == values[0]))
