"""Names of signals in filters and quotas: one number, boolean or label per row, from `--model`.

    answer_loss                the main field of a signal under its short name
    answer_loss.greedy_match   any other field: SIGNAL.FIELD

Not included: vectors and free texts; signals of a trained model, a teacher or a validation set,
which belong to their methods; facts that need no model, such as the length of the answers (see
`mixture.columns`).
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
from thresher.signals.pooled_embedding import NAME_EMBEDDER
from thresher.signals.reading import needs_weights
from thresher.signals.skill_labels import SkillLabels
from thresher.signals.skills import skills_of
from thresher.signals.suspicion import Suspicion
from thresher.signals.visual_gain import VisualGain
from thresher.types import Capability, ModelIdentity, Signal

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
"""Fields with labels that depend on the pool -> the field with the labels' identifiers."""


@dataclass(frozen=True)
class NamedField:
    """`name`: as typed. `signal`: a key of `signals_by_name`. `field`: of that signal."""

    name: str
    signal: str
    field: str

    @property
    def identifier(self) -> str | None:
        """The field with the identifiers of these labels; None if the field has no labels."""
        return IDENTIFIERS.get((self.signal, self.field))

    @property
    def full_name(self) -> str:
        """SIGNAL.FIELD."""
        return f"{self.signal}.{self.field}"


def signals_by_name(
    model: ModelIdentity, embedder: ModelIdentity | None = None
) -> dict[str, Signal]:
    """All signals that have names, in the order in which they are computed.

    Arguments:
        model: that computes them.
        embedder: gives the embeddings of rows that make the skills; None: `model`.

    The order is that of `suspicion_signals`, so that both use the same stored skills.
    """
    loss, skills = AnswerLoss(model), skills_of(embedder or model)
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
    """The signal field with this name; None if there is none.

    >>> named_field("answer_tokens"), named_field("suspicion.rank"), named_field("nll")
    (NamedField(name='answer_tokens', signal='answer_loss', field='tokens'),
     NamedField(name='suspicion.rank', signal='suspicion', field='rank'), None)
    """
    if name in SHORT:
        return NamedField(name, *SHORT[name])
    signal, dot, field = name.rpartition(".")
    return NamedField(name, signal, field) if dot and field in _fields().get(signal, ()) else None


def names_of_field(field: str) -> list[str]:
    """The names, if possible short ones, of all signal fields called `field`.

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
    """All names of signal fields, short ones first."""
    return [*SHORT, *(f"{name}.{field}" for name, fields in _fields().items() for field in fields)]


def signals_for(
    fields: Sequence[NamedField], model: ModelIdentity, embedder: ModelIdentity | None = None
) -> dict[str, Signal]:
    """The signals of these fields by name, each after its inputs.

    Arguments:
        fields: the fields that filters and quotas name.
        model: that computes them.
        embedder: gives the embeddings of rows that make the skills; None: `model`.

    Raises CapabilityError for a model behind a server, in vLLM or of an adapter that cannot compute
    one of them.
    """
    table = signals_by_name(model, embedder)
    needed = {f.signal for f in fields}
    for field in fields:
        if _needs_embeddings(table[field.signal]) and not (embedder or model).embeds:
            raise CapabilityError(
                f"{field.name} is computed from embeddings of the rows, and this model "
                f"{(embedder or model).limit}, which does not give them. {NAME_EMBEDDER}"
            )
        if model.losses_only and _needs_weights(table[field.signal]):
            name = f"{model.weights!r}" if model.served else "this model"
            weights = (
                f"Give its weights: {opt('model')} with a folder or a hub id."
                if model.served
                else f"Leave {opt('backend', model.engine)} out."
            )
            raise CapabilityError(
                f"{field.name} is computed from whole distributions of tokens, and {name} "
                f"{model.limit}. {weights}"
            )
    for name, signal in reversed(table.items()):  # inputs come first
        if name in needed:
            inputs = tuple(signal.inputs().values())
            needed |= {other for other, inner in table.items() if inner in inputs}
    return {name: signal for name, signal in table.items() if name in needed}


def _needs_embeddings(signal: Signal) -> bool:
    """Whether the signal or one of its inputs is an embedding of rows."""
    own = getattr(signal, "needs", None) is Capability.EMBED
    return own or any(map(_needs_embeddings, signal.inputs().values()))


def _needs_weights(signal: Signal) -> bool:
    """Whether no server can compute the signal or one of its inputs, embeddings apart."""
    if getattr(signal, "needs", None) is Capability.EMBED:
        return False
    return needs_weights(signal) or any(map(_needs_weights, signal.inputs().values()))


@cache
def _fields() -> dict[str, tuple[str, ...]]:
    table = signals_by_name(ModelIdentity.unresolved("model"))
    return {name: tuple(f.name for f in signal.fields) for name, signal in table.items()}
