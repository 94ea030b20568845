"""Warnings about a judge that gives no usable answers, computed from its columns. Pure numpy.

A model that was not trained to answer 0 … 5 still gives a score; only its probability of the six
answers, and whether rows differ at all, show that the score means little.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from thresher.console.formatting import percent_below

LOW_MASS = 0.5
"""Mean probability of the valid answers below which the user is warned."""

FLAT = 1e-3
"""Standard deviation of a score (0 … 5) below which a column counts as constant."""


def warnings(
    scores: Mapping[str, np.ndarray],
    masses: Mapping[str, np.ndarray],
    known: frozenset[str] = frozenset(),
) -> list[str]:
    """Warnings about a judge's columns, one sentence per problem.

    Arguments:
        scores: capability -> float [n], 0 … 5.
        masses: capability -> float [n], 0 … 1: probability of the valid answers, for scores that
            are expectations.
        known: capabilities whose lack of any score is reported elsewhere.
    """
    none, same, low = [], [], []
    answers = doubtful = rows = 0
    for name, score in scores.items():
        good = np.isfinite(score)
        rows = max(rows, len(score))
        if not good.any():
            none += [name] if len(score) and name not in known else []
            continue
        values = score[good].astype(np.float64)
        if len(values) > 1 and values.std() < FLAT:
            same.append(f"{name} ({values.mean():.3f})")
        if name in masses:
            answered = masses[name][good].astype(np.float64)
            mean = float(answered.mean())
            if mean < LOW_MASS:
                low.append(f"{name} {percent_below(mean)}")
                answers, doubtful = (
                    answers + len(answered),
                    doubtful + int((answered < LOW_MASS).sum()),
                )
    found = []
    if none:
        found.append(f"No row has a score for {', '.join(none)}")
    if same:
        found.append(
            f"The score is the same in all {rows:,} rows, so it cannot tell them apart, for "
            f"{len(same)} of {_capabilities(len(scores))}: {', '.join(same)}"
        )
    if low:
        found.append(
            "The judge puts little of its probability on the answers 0 to 5 (under "
            f"{LOW_MASS:.0%} in {doubtful:,} of {answers:,} answers), so it mostly answers "
            f"something else and its scores mean little, for {len(low)} of "
            f"{_capabilities(len(scores))}: {', '.join(low)}. Use a model that was trained for "
            "these questions, or a larger instruct model"
        )
    return found


def parse_warnings(parsed: Mapping[str, np.ndarray], texts: Mapping[str, np.ndarray]) -> list[str]:
    """Warnings about generated scores.

    Arguments:
        parsed: capability -> bool [n].
        texts: capability -> str [n], the generated texts.
    """
    bad = {name: int((~good).sum()) for name, good in parsed.items()}
    if not any(bad.values()):
        return []
    each = ", ".join(f"{name} {k:,}" for name, k in bad.items() if k)
    example = next(
        (
            _quoted(str(t))
            for name, good in parsed.items()
            for t in texts[name][~good]
            if str(t).strip()
        ),
        "",
    )
    return [
        f"{sum(bad.values()):,} of {sum(map(len, parsed.values())):,} answers give no clear "
        "number from 0 to 5, and their rows have no score of that capability: "
        f"{each}{f'. Such as {example}' if example else ''}"
    ]


def _quoted(text: str, most: int = 80) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())
    return f"“{line if len(line) <= most else line[:most] + ' …'}”"


def _capabilities(count: int) -> str:
    return f"{count} capabilit{'y' if count == 1 else 'ies'}"


def style_warnings(parsed: np.ndarray) -> list[str]:
    """Warnings about generated styles. parsed: bool [n]."""
    n, bad = len(parsed), int((~parsed).sum())
    if not bad:
        return []
    text = (
        f"styles: {bad:,} of {n:,} generations ({bad / n:.1%}) name no known style; their rows "
        "have none"
    )
    return [text]


def chosen_warnings(names: tuple[str, ...], chosen: np.ndarray) -> list[str]:
    """Warnings about styles by likelihood. chosen: bool [n, styles].

    Arguments:
        names: of the styles.
        chosen: bool [n, styles].
    """
    n = len(chosen)
    if n < 2:
        return []
    every = [names[k] for k in np.flatnonzero(chosen.all(axis=0)).tolist()]
    if every and bool((chosen == chosen[0]).all()):
        return [
            (
                f"styles: all {n:,} rows have the same ones ({', '.join(every)}), so styles do not "
                "tell them apart"
            )
        ]
    return []
