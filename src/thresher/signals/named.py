"""Signals by the names that users type in filters and quotas: one number, truth value or label a
row, of the model of `--model`.

    answer_loss                the main field of a signal under its short name
    answer_loss.greedy_match   any other field: SIGNAL.FIELD

Not here: vectors and texts that are no labels; signals of a trained model, a teacher or a
validation set, which belong to their methods; what reading the pool shows, such as the length of
the answers (`mixture.columns` has that).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from thresher.errors import CapabilityError, opt
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.capabilities import CAPABILITIES
from thresher.signals.entropy import Entropy
from thresher.signals.judge import Judge
from thresher.signals.own_answer_gap import OwnAnswerGap
from thresher.signals.skill_labels import SkillLabels
from thresher.signals.skills import skills_of
from thresher.signals.suspicion import Suspicion
from thresher.signals.visual_gain import VisualGain
from thresher.types import ModelIdentity, Signal

SHORT: dict[str, tuple[str, str]] = {
    "answer_loss": ("answer_loss", "nll"),
    "answer_tokens": ("answer_loss", "tokens"),
    "greedy_match": ("answer_loss", "greedy_match"),
    "entropy": ("entropy", "entropy"),
    "own_answer_gap": ("own_answer_gap", "gap"),
    "skill": ("skill", "label"),
    "skill_group": ("skill", "group"),
    "visual_gain": ("visual_gain", "gain"),
    "suspicion": ("suspicion", "suspicion"),
    **{f"score_{c.name}": (f"score_{c.name}", "score") for c in CAPABILITIES},
}
"""Short name -> signal and field."""
IDENTIFIERS = {("skill", "label"): "id", ("skill", "group"): "group_id"}
"""Labels that differ from pool to pool, and the field with an identifier of each."""


@dataclass(frozen=True)
class NamedField:
    """`name`: as typed. `signal`: a key of `signals_by_name`. `field`: of that signal."""

    name: str
    signal: str
    field: str

    @property
    def identifier(self) -> str | None:
        """The field with the identifiers of these labels; None: they are no labels."""
        return IDENTIFIERS.get((self.signal, self.field))

    @property
    def full_name(self) -> str:
        """SIGNAL.FIELD."""
        return f"{self.signal}.{self.field}"


def signals_by_name(model: ModelIdentity) -> dict[str, Signal]:
    """Every signal, in the order in which they are computed: that of `suspicion_signals`, so that
    skills are found in the store for the same rows."""
    loss, skills = AnswerLoss(model), skills_of(model)
    gain = VisualGain(loss)
    return {
        "answer_loss": loss,
        "entropy": Entropy(model),
        "own_answer_gap": OwnAnswerGap(model),
        "skills": skills,
        "skill": SkillLabels(skills),
        "answer_loss_without_image": AnswerLoss(model, image=False),
        "visual_gain": gain,
        "suspicion": Suspicion(loss, skills, gain),
        **{f"score_{c.name}": Judge(model, c) for c in CAPABILITIES},
    }


def named_field(name: str) -> NamedField | None:
    """The field of a signal that a name stands for; None if it stands for none.

    >>> named_field("answer_tokens"), named_field("suspicion.rank"), named_field("nll")
    (NamedField(name='answer_tokens', signal='answer_loss', field='tokens'),
     NamedField(name='suspicion.rank', signal='suspicion', field='rank'), None)
    """
    if name in SHORT:
        return NamedField(name, *SHORT[name])
    signal, dot, field = name.rpartition(".")
    return NamedField(name, signal, field) if dot and field in _fields().get(signal, ()) else None


def names_of_field(field: str) -> list[str]:
    """The names of the signals' fields that are called so, short ones where there are.

    >>> names_of_field("tokens"), names_of_field("gap")
    (['answer_tokens', 'answer_loss_without_image.tokens'], ['own_answer_gap'])
    """
    short = {full: name for name, full in SHORT.items()}
    return [
        short.get((signal, field), f"{signal}.{field}")
        for signal, fields in _fields().items()
        if field in fields
    ]


def all_names() -> list[str]:
    """Every name of a field, short ones first."""
    return [*SHORT, *(f"{name}.{field}" for name, fields in _fields().items() for field in fields)]


def signals_for(fields: Sequence[NamedField], model: ModelIdentity) -> dict[str, Signal]:
    """The signals of these fields, and before each those that it is made from, by name.

    Raises CapabilityError for a model behind a server that cannot give them.
    """
    table = signals_by_name(model)
    wanted = {f.signal for f in fields}
    for field in fields:
        if model.served and not isinstance(table[field.signal], Judge):
            raise CapabilityError(
                f"{field.name} is read from a model's own probabilities and hidden states, and "
                f"{model.weights!r} is behind a server. Give its weights: {opt('model')} with a "
                "folder or a hub id."
            )
    for name, signal in reversed(table.items()):  # inputs come first
        if name in wanted:
            made_from = tuple(signal.inputs().values())
            wanted |= {other for other, inner in table.items() if inner in made_from}
    return {name: signal for name, signal in table.items() if name in wanted}


@cache
def _fields() -> dict[str, tuple[str, ...]]:
    table = signals_by_name(ModelIdentity.unresolved("model"))
    return {name: tuple(f.name for f in signal.fields) for name, signal in table.items()}
