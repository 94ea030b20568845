"""Is a judge judging? Numbers over its columns, and the sentences that tell a user when it is not. Pure numpy.

A model that was not tuned to answer 0 … 5 still gives a score; only the probability that it puts on the six answers, and
whether rows differ at all, say that the score means little.
"""

from __future__ import annotations

import numpy as np

LOW_MASS = 0.5
"""Mean probability on the valid answers under which a judge is said not to answer."""

FLAT = 1e-3
"""Standard deviation of a score (of 0 … 5) under which a column is called constant."""


def warnings(name: str, score: np.ndarray, mass: np.ndarray) -> list[str]:
    """What a user should know of one capability's column: `score` float [n] (0 … 5) and `mass` float [n] (0 … 1)."""
    good = np.isfinite(score)
    n = int(good.sum())
    found: list[str] = []
    if n == 0:
        return [f"{name}: no row has a score"] if len(score) else found
    values, answered = score[good].astype(np.float64), mass[good].astype(np.float64)
    if n > 1 and values.std() < FLAT:
        found.append(
            f"{name}: the score is the same for all {n:,} rows ({values.mean():.3f}, spread {values.std():.1e}), so it "
            "cannot tell them apart"
        )
    mean = float(answered.mean())
    if mean < LOW_MASS:
        low = int((answered < LOW_MASS).sum())
        found.append(
            f"{name}: the judge puts only {mean:.1%} of its probability on the answers 0 to 5 (under {LOW_MASS:.0%} in "
            f"{low:,} of {n:,} rows), so it mostly answers something else: its scores mean little. Use a model that was "
            "trained for this question, or a larger instruct model"
        )
    return found


def style_warnings(parsed: np.ndarray) -> list[str]:
    """What a user should know of written styles: `parsed` bool [n]."""
    n, bad = len(parsed), int((~parsed).sum())
    if not bad:
        return []
    text = f"styles: {bad:,} of {n:,} generations ({bad / n:.1%}) name no known style; their rows have none"
    return [text]


def chosen_warnings(names: tuple[str, ...], chosen: np.ndarray) -> list[str]:
    """What a user should know of styles by likelihood: `chosen` bool [n, styles]."""
    n = len(chosen)
    if n < 2:
        return []
    every = [names[k] for k in np.flatnonzero(chosen.all(axis=0)).tolist()]
    if every and bool((chosen == chosen[0]).all()):
        return [f"styles: all {n:,} rows have the same ones ({', '.join(every)}), so styles do not tell them apart"]
    return []
