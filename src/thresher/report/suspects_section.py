"""The report's section on suspects: the most suspicious rows by skill, from stored columns. Runs no
model; if columns are missing, it names the command that computes them.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thresher.console.formatting import format_percent, pluralize
from thresher.doctor.stored_suspects import StoredSuspects, stored_suspects
from thresher.doctor.suspects import THRESHOLD, Suspect
from thresher.html import Card
from thresher.pools.cards import message
from thresher.report.folder import LoadedSelection
from thresher.report.gallery import make_cards
from thresher.request.model_spec import is_url
from thresher.request.spelling import as_flag, flag_of
from thresher.signals.suspicion import UNCHECKED
from thresher.storage.opening import open_existing
from thresher.types import EMBEDDER, ModelIdentity

SHOWN = 24  # rows
OF_A_SKILL = 4  # of these, as long as other skills have suspected rows
THUMBNAIL_BYTES = 1_000_000  # of this section's images together
WEIGHTS = 24  # characters of a model that is known by its weights only


@dataclass(frozen=True)
class SkillGroup:
    """Suspected rows of a skill. `rows`: number of rows of the skill; `suspected`, `kept`: number
    of suspected rows, and of those that were kept (None without a selection)."""

    title: str
    rows: int
    suspected: int
    kept: int | None
    cards: tuple[Card, ...]

    @property
    def count(self) -> str:
        count = f"{self.suspected:,} of {pluralize(self.rows)} suspected"
        return count if self.kept is None else f"{count}, {self.kept:,} of them kept"


@dataclass(frozen=True)
class SuspectsSection:
    """`lead`: a summary. `missing`: what is not stored, or ""; `command` computes it. `notes`:
    about the reliability of the list."""

    lead: str
    groups: tuple[SkillGroup, ...] = ()
    notes: tuple[str, ...] = ()
    missing: str = ""
    command: str = ""


def suspects_section(selection: LoadedSelection) -> SuspectsSection:
    """The section for the selection in a folder. Raises StoreError, PoolError."""
    found = suspects_of_run(selection)
    overview = suspects_overview(selection, found)
    if found is None:
        return overview
    suspected = _likeliest(found)
    shown = first_of_skills(found, suspected)
    lead = overview.lead
    if len(shown) < len(suspected):
        lead += f" Shown: {len(shown):,} of the likeliest."
    return replace(overview, lead=lead, groups=_groups(selection, found, suspected, shown))


def suspects_overview(selection: LoadedSelection, found: StoredSuspects | None) -> SuspectsSection:
    """The section without rows.

    Arguments:
        selection: that the report is about.
        found: its suspects; None if nothing is stored.
    """
    if found is None:
        return SuspectsSection(
            "Not known: the store holds no model's losses and skills of these rows.",
            missing="This command computes them",
            command=suspects_command(selection.run),
        )
    suspected = _likeliest(found)
    missing = _missing_columns(found, suspected)
    return SuspectsSection(
        _lead(selection, found, suspected),
        (),
        tuple(note.spelled(as_flag) for note in found.notes),
        f"Not in the store: {missing}. This command computes what is missing" if missing else "",
        suspects_command(selection.run) if missing else "",
    )


def _likeliest(found: StoredSuspects) -> np.ndarray:
    """Suspected rows, most suspicious first: int64 indices into `found.rows`."""
    return np.asarray(found.order[found.suspected[found.order]])


def _groups(
    selection: LoadedSelection, found: StoredSuspects, suspected: np.ndarray, shown: np.ndarray
) -> tuple[SkillGroup, ...]:
    """The rows `shown` by skill. `suspected`, `shown`: int64 indices into `found.rows`."""
    suspects = {s.row: s for s in found.suspects(shown)}
    failed = {f.row: f.error for f in selection.failures}
    cards = make_cards(selection, found.rows[shown], failed, max_image_bytes=THUMBNAIL_BYTES)
    kept = selection.in_pool[found.rows]  # bool [e]
    leaf = np.asarray(found.columns["skills"]["leaf"])
    sizes = np.bincount(leaf)
    out = []
    for skill in dict.fromkeys(leaf[shown].tolist()):
        of_skill = suspected[leaf[suspected] == skill]
        those = [c for c, i in zip(cards, shown.tolist(), strict=True) if leaf[i] == skill]
        out.append(
            SkillGroup(
                skill_title(suspects[those[0].row]),
                int(sizes[skill]),
                len(of_skill),
                int(kept[of_skill].sum()),
                tuple(with_suspicion(c, suspects[c.row]) for c in those),
            )
        )
    return tuple(out)


def suspects_of_run(selection: LoadedSelection) -> StoredSuspects | None:
    """The stored suspects of a selection; None if nothing is stored."""
    store = open_existing(selection.run["store"])
    if store is None:
        return None
    model, embedder = (_identity(noted) for noted in _noted(selection.run))
    return stored_suspects(selection.pool, store, model, selection.rows, embedder)


def _noted(run: Mapping[str, Any]) -> tuple[Any, Any]:
    """What run.yaml says of the model and of the embedder; None for one that there was not."""
    return run.get("model"), (run.get("roles") or {}).get(EMBEDDER)


def _identity(noted: Any) -> ModelIdentity | None:
    return ModelIdentity(**noted["identity"]) if noted else None


def first_of_skills(found: StoredSuspects, suspected: np.ndarray) -> np.ndarray:
    """At most `SHOWN` suspected rows: of each skill the first `OF_A_SKILL`, and others if there is
    room.

    Arguments:
        found: with the skills.
        suspected: int64 [m], indices into `found.rows`, most suspicious first.

    Returns int64 indices into `found.rows`, in the order of `suspected`.
    """
    leaf = np.asarray(found.columns["skills"]["leaf"])[suspected]
    order = np.argsort(leaf, kind="stable")
    start = np.searchsorted(leaf[order], leaf[order])
    place = np.empty(len(leaf), np.int64)  # of each row among the suspected ones of its skill
    place[order] = np.arange(len(leaf)) - start
    preferred = np.argsort(place >= OF_A_SKILL, kind="stable")[:SHOWN]
    return np.asarray(suspected[np.sort(preferred)])


def with_suspicion(card: Card, suspect: Suspect) -> Card:
    """The card with the model's own answer and the reason for the suspicion.

    Arguments:
        card: of the row.
        suspect: what is known about the row.
    """
    messages = list(card.messages)
    if card.more_messages:  # the last answer is not among those that are shown
        messages.append(message("assistant", suspect.given))
        messages[-1] = replace(messages[-1], role="Last answer")
    if suspect.answer is not None:
        own = message("assistant", suspect.answer or "(an empty answer)")
        messages.append(replace(own, role="Model"))
    facts = [
        ("suspicion", f"{suspect.suspicion:.2f}"),
        ("loss", f"{suspect.nll:.2f} nats"),
        ("rank in its skill", f"{suspect.rank:,} of {suspect.skill_rows:,}"),
        ("visual gain", "not known" if suspect.gain is None else f"{suspect.gain:+.2f} nats"),
    ]
    if suspect.same is not None:
        facts.append(("model agrees", "yes" if suspect.same else "no"))
    names = {name for name, _ in facts}  # the method may have given the same number as a reason
    others = (pair for pair in card.scores if pair[0] not in names)
    return replace(card, messages=tuple(messages), scores=(*facts, *others))


def skill_title(suspect: Suspect) -> str:
    """The words of a skill, or its number, as winnow names it."""
    return suspect.skill_words or f"Skill {suspect.skill}"


def _missing_columns(found: StoredSuspects, suspected: np.ndarray) -> str:
    """Description of the columns that `thresher suspects --answers` would add, or "".

    Arguments:
        found: the stored suspects.
        suspected: int64 [m], indices into `found.rows`.
    """
    parts = [] if found.checked else ["the visual gain that checks these rows"]
    without = sum(text is None for text in found.answers[suspected])
    if without == len(suspected) and without:
        parts.append("the model's own answers")
    elif without:
        parts.append(f"the model's own answers to {pluralize(without)}")
    return " and ".join(parts)


def suspects_command(run: Mapping[str, Any]) -> str:
    """`thresher suspects` for the pool of a selection, `run`: its run.yaml."""
    config, pool = run["config"], run["pool"]
    model = config.get("model")
    if model and config.get("url"):
        model = f"{config['url']}#{model}"
    words = ["thresher", "suspects", str(pool["path"])]
    words += ["--images", str(pool["images"])] if pool.get("images") else []
    words += ["--format", pool["read_as"]] if pool.get("read_as") else []
    words += ["--trust-paths"] if pool.get("trust_paths") else []
    words += ["--model", str(model or "MODEL")]
    for name in ("device", "dtype"):
        if model and config.get(name) not in (None, "auto"):
            words += [f"--{name}", str(config[name])]
    if model and config.get("image_pixels"):
        words += ["--image-pixels", str(config["image_pixels"])]
    if config.get("embedder"):
        words += ["--embedder", str(config["embedder"])]
        words += ["--embed-text"] if config.get("embed_text") else []
    if is_url(model) or is_url(config.get("embedder")):
        for name in ("image_side", "api_key_env"):
            if config.get(name) is not None:
                words += [flag_of(name), str(config[name])]
    words += ["--trust-remote-code"] if model and config.get("trust_remote_code") else []
    return shlex.join([*words, "--store", str(run["store"]), "--answers"])


def _lead(selection: LoadedSelection, found: StoredSuspects, suspected: np.ndarray) -> str:
    n, judged = len(suspected), len(found.rows)
    kept = int(selection.in_pool[found.rows[suspected]].sum())
    share = f"{n:,} of {pluralize(judged)} ({format_percent(n, judged)})"
    by = f"by the loss of {_model_name(selection, found.model)}"
    if found.embedder != found.model:
        by += f", in skills of the embeddings of {_model_name(selection, found.embedder)}"
    if found.checked:
        total = float(found.columns["suspicion"]["suspicion"][suspected].sum())
        text = (
            f"{share} {'is' if n == 1 else 'are'} likely wrong {by}: suspicion of {THRESHOLD:g} or "
            "more, where suspicion is the confidence from 0 to 1 that the answer is wrong."
        )
        text += f" About {total:,.0f} of them are wrong." if n else ""
    else:
        text = (
            f"{share} {'has' if n == 1 else 'have'} a high loss for "
            f"{'its skill' if n == 1 else 'their skills'}, {by}. There was no check by images and "
            "videos, so the answers may be hard instead of wrong, and no suspicion is above "
            f"{UNCHECKED}."
        )
    if n:
        text += f" {kept:,} of them {'is' if kept == 1 else 'are'} kept."
    rest = len(selection.pool) - judged
    return text + (f" {pluralize(rest)} of the pool were not judged." if rest else "")


def _model_name(selection: LoadedSelection, model: ModelIdentity) -> str:
    for noted in _noted(selection.run):
        if _identity(noted) == model:
            return str(noted["name"])
    if model.served:
        name = f"the model {model.weights.removeprefix('api:')!r} behind a server"
    else:
        name = f"the model {model.weights[:WEIGHTS]}…"
    return f"{name}, which is not the one of this selection"
