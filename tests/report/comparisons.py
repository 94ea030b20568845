"""Comparison files in the format of `thresher compare`."""

from __future__ import annotations

from typing import Any


def compare_json(
    kind: str = "no gain",
    difference: float = 0.4,
    full: bool = True,
    budgets: tuple[str, ...] = ("5%", "10%"),
) -> dict[str, Any]:
    """A compare.json as `thresher compare` writes it: clipper and random, three seeds."""
    cells = []
    for seed in range(3):
        for i, budget in enumerate(budgets):
            for name, gain in (("random", 0.0), ("clipper", difference / 100)):
                cells.append(
                    {
                        "method": name,
                        "budget": budget,
                        "rows": 100 * (i + 1),
                        "seed": seed,
                        "accuracy": 0.5 + 0.1 * i + gain + 0.01 * seed,
                        "macro": 0.5,
                        "seconds_selection": 60.0 * (name != "random"),
                        "seconds_training": 100.0 * (i + 1),
                    }
                )
        if full:
            cells.append(
                {
                    "method": "full",
                    "budget": "100%",
                    "rows": 2000,
                    "seed": seed,
                    "accuracy": 0.8,
                    "macro": 0.8,
                    "seconds_selection": 0.0,
                    "seconds_training": 2000.0,
                }
            )
    verdicts = [
        {
            "method": "clipper",
            "budget": budget,
            "rows": 100 * (i + 1),
            "kind": kind,
            "verdict": f"{kind} over random <i>({difference:+.1f})",
            "difference": difference,
            "interval": [difference - 2, difference + 2],
            "mean": 51.0 + 10 * i,
            "mean_interval": [49.0 + 10 * i, 53.0 + 10 * i],
            "random": 51.0,
            "percent_of_full": 63.7,
            "seconds_selection": 60.0,
            "seconds_training": 100.0 * (i + 1),
            "seconds_saved": 1900.0 - 100 * i if full else None,
        }
        for i, budget in enumerate(budgets)
    ]
    return {
        "cells": cells,
        "verdicts": verdicts,
        "notes": ["a <note>"],
        "pool": "p.json",
        "eval_rows": 1234,
        "seeds": 3,
    }
