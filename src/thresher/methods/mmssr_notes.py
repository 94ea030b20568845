"""Notes on an mmSSR selection: whether the judge gave usable answers, how well scorer and teacher
agree, which capabilities ran out of rows.

Pure functions of columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from thresher.console.formatting import number_text, pluralize
from thresher.errors import opt
from thresher.methods.explanation import Evidence, Why, joined
from thresher.samplers import RoundRobin
from thresher.signals.capabilities import STYLES
from thresher.signals.distillation import teacher_score
from thresher.signals.health import (
    LOW_MASS,
    chosen_warnings,
    parse_warnings,
    style_warnings,
    warnings,
)
from thresher.stats.correlation import f1, spearman
from thresher.types import Columns

# mean rank correlation with the teacher below which the user is warned about the scorer
LOW_AGREEMENT = 0.3


def taken_notes(
    taken: RoundRobin,
    capabilities: tuple[str, ...],
    budget: int,
    threshold: float,
    *,
    any_score: bool = True,
) -> list[str]:
    """How many rows each capability took, which ran out, and why there are fewer rows than the
    budget.

    Arguments:
        taken: the result of the sampler.
        capabilities: their names.
        budget: rows to take.
        threshold: score above which a row may be taken.
        any_score: whether any row has a score.
    """
    notes = []
    count = np.bincount(taken.capability[taken.rows], minlength=len(capabilities))
    if len(capabilities) > 1:
        each = ", ".join(
            f"{name} {k:,}" for name, k in zip(capabilities, count.tolist(), strict=True)
        )
        notes.append(f"Rows by the capability that took them: {each}.")
    if not any_score:  # `health` reports it, and no threshold would change it
        return notes
    if not len(taken.rows):
        return [
            (
                f"No row scores above {threshold:g} in one of the capabilities. A lower threshold "
                "would find some."
            )
        ]
    if len(taken.rows) < budget:  # all have run out: one note covers it
        notes.append(
            f"All {pluralize(len(taken.rows))} that score above {threshold:g} in one of the "
            f"capabilities were taken; the budget is {budget:,}. A lower threshold, or more "
            "capabilities, would find more."
        )
        return notes
    none = [capabilities[c] for c, had in taken.dropped if not had]
    if none:
        notes.append(
            f"No row scores above {threshold:g} in {', '.join(none)}; the other capabilities "
            "share the rest of the budget."
        )
    for c, had in taken.dropped:
        if had:
            notes.append(
                f"{capabilities[c]} ran out after {pluralize(had)}: no remaining row scores above "
                f"{threshold:g}. It was dropped, and the others share the rest of the budget."
            )
    return notes


def health(
    columns: Columns, capabilities: tuple[str, ...], named: np.ndarray, *, imported: bool = False
) -> list[str]:
    """Warnings about constant scores, low probability of the valid answers, and invalid answers.

    Arguments:
        columns: of the pool.
        capabilities: their names.
        named: bool [n], the row has a style.
        imported: whether the answers are read from files, where "" is no answer.
    """
    if not len(columns):
        return []
    each = {name: columns[f"score_{name}"] for name in capabilities}
    written = {name: c for name, c in each.items() if "parsed" in c}
    texts = {name: np.asarray(c["text"], object) for name, c in written.items()}
    answered = {name: (text != "") | (not imported) for name, text in texts.items()}
    notes = parse_warnings(
        {name: np.asarray(c["parsed"], bool)[answered[name]] for name, c in written.items()},
        {name: text[answered[name]] for name, text in texts.items()},
    )
    notes += warnings(
        {name: np.asarray(c["score"]) for name, c in each.items()},
        {name: np.asarray(c["mass"]) for name, c in each.items() if "mass" in c},
        known=frozenset(
            name for name, c in written.items() if not np.asarray(c["parsed"], bool).any()
        ),
    )
    if "styles" in columns.values:
        if imported:
            named = named[np.asarray(columns["styles"]["text"], object) != ""]
        notes += style_warnings(named)
    else:
        given = [columns[f"style_{k}"] for k in range(len(STYLES))]
        mass = float(
            np.exp(np.stack([np.asarray(s["logprob"], np.float64) for s in given]))
            .sum(axis=0)
            .mean()
        )
        if mass < LOW_MASS:
            notes.append(
                f"styles: the styler puts only {mass:.1%} of its probability on the nine names, "
                "so it mostly answers something else"
            )
        notes += chosen_warnings(
            STYLES, np.stack([np.asarray(s["chosen"], bool) for s in given], axis=1)
        )
    return [note if note.endswith(".") else f"{note}." for note in notes]


def results_notes(columns: Columns, capabilities: tuple[str, ...]) -> list[str]:
    """Rows without a result of the official program: without a line, or with an empty answer.

    Arguments:
        columns: of the pool, with official results.
        capabilities: their names.
    """
    notes = []
    for label, name in (*((c, f"score_{c}") for c in capabilities), ("style", "styles")):
        listed = np.asarray(columns[name]["listed"], bool)
        empty = listed & (np.asarray(columns[name]["text"], object) == "")
        for count, what in (
            (int((~listed).sum()), "no line"),
            (int(empty.sum()), "an empty answer"),
        ):
            if count:
                notes.append(
                    f"{pluralize(count)} of {len(columns):,} {'has' if count == 1 else 'have'} "
                    f"{what} in {label}.jsonl, and no "
                    f"{'style' if label == 'style' else 'score'} from it."
                )
    return notes


def agreement(
    columns: Columns,
    capabilities: tuple[str, ...],
    scores: list[np.ndarray],
    bits: np.ndarray,
    taught: np.ndarray,
) -> list[str]:
    """Agreement with the teacher on the held-out rows.

    Arguments:
        columns: of the pool.
        capabilities: their names.
        scores: float32 [n] of each.
        bits: int32 [n], the styler's styles.
        taught: int32 [n], the teacher's styles.
    """
    held = np.flatnonzero(columns["sample"]["held_out"])
    by_capability, by_style = [], []
    for name, score in zip(capabilities, scores, strict=True):
        by_capability.append(
            (name, spearman(score[held], teacher_score(columns[f"teacher_score_{name}"])[held]))
        )
    for k, style in enumerate(STYLES):
        by_style.append((style, f1(bits[held] >> k & 1 == 1, taught[held] >> k & 1 == 1)))
    mean, each, without = _summarize(by_capability)
    notes = []
    if each:
        notes.append(
            f"Scorer and teacher on {pluralize(len(held))} held out from training: Spearman "
            f"correlation {mean:.2f} on average ({each})."
        )
    if without:
        notes.append(
            "Without a correlation, because scorer or teacher gives all held-out rows the same "
            "score: "
            f"{', '.join(without)}."
        )
    if each and mean < LOW_AGREEMENT:
        notes.append(
            f"The scorer agrees little with its teacher (below {LOW_AGREEMENT}): give a larger "
            f"teacher_fraction, more epochs, or a larger model ({opt('model')}) before relying on "
            "this selection."
        )
    mean, each, _ = _summarize(by_style)
    if each:
        notes.append(f"Styler and teacher on the held-out rows: F1 {mean:.2f} on average ({each}).")
    return notes


def _summarize(values: list[tuple[str, float]]) -> tuple[float, str, list[str]]:
    """(mean, "name 0.81, name 0.40", names without a value), the mean over those with a value."""
    known = [(name, v) for name, v in values if math.isfinite(v)]
    mean = sum(v for _, v in known) / len(known) if known else math.nan
    return (
        mean,
        ", ".join(f"{name} {v:.2f}" for name, v in known),
        [n for n, v in values if not math.isfinite(v)],
    )


def explain_rows(evidence: Evidence) -> Callable[[int], Why]:
    r, kept = evidence.reasons, evidence.kept

    def why(i: int) -> Why:
        score = float(r["score"][i])
        score_text = "no score above the threshold"
        if not np.isnan(score):
            score_text = joined(f"score {number_text(score)} of 5", evidence.standing("score", i))
        style = f"; style: {r['style'][i]}" if "style" in r and r["style"][i] else ""
        if kept[i]:
            skill = str(r["capability"][i]).replace("_", " ") or "no capability"
            turn = (
                f" in turn {int(r['round'][i]) + 1}" if "round" in r and r["round"][i] >= 0 else ""
            )
            return Why(f"for {skill}", f"taken for {skill}{turn}: {score_text}{style}")
        best = score_text if np.isnan(score) else f"best {score_text}"
        return Why(
            "enough similar rows kept", f"enough rows of its groups were kept; {best}{style}"
        )

    return why
