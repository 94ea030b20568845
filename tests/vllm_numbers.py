"""What a backend gives for the rows of `picture_rows`: of vLLM's engine in its own environment, and
of transformers in this one.

    python -m tests.vllm_numbers FOLDER OUT.json

opens the model of the folder in vLLM and writes the numbers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.backends.openai.asked_rows import collect
from tests.picture_rows import ROWS, Pictures
from thresher.backends import resolve
from thresher.signals.query import Query, judge_prompt

QUERIES = (
    Query("\nRight?", ("Yes", "No", "yes", "no")),
    Query("\nScore it, 0 to 5.", tuple("012345")),
    Query("\nWhich kind is it?", ("a colour", "a count", "a number of it"), True, True),
)
SHOWN = [ROWS[1], ROWS[2], ROWS[0], ROWS[4], ROWS[0]]
AFTER = [ROWS[0], ROWS[0], ROWS[3], ROWS[2], ROWS[1]]

OPENED: list[Any] = []  # still open when Python exits, as in a run of the command line


def numbers(backend: Any) -> dict[str, Any]:
    """Name -> values in the order of the rows, as JSON has them."""
    found: dict[str, Any] = {}

    def keep(name: str, pieces: Any, count: int) -> None:
        values, errors = collect(pieces, count)
        assert errors == [""] * count, errors
        found.update({f"{name} {field}": column.tolist() for field, column in values.items()})

    pool = Pictures()
    keep("loss", backend.answer_loss(ROWS, pool), len(ROWS))
    for name in ("one-shot", "again"):  # the second time from vLLM's prefix cache
        values, errors = collect(backend.one_shot(AFTER, SHOWN, pool), len(AFTER))
        assert errors == [""] * len(AFTER), errors
        found[f"{name} nll"] = values["nll"].tolist()
    prompts = [judge_prompt(row, "") for row in ROWS]
    keep("ask", backend.ask(prompts, QUERIES, pool), len(ROWS))
    keep("generate", backend.generate(ROWS, pool, 8), len(ROWS))
    candidates = [["red", "blue ball", "12"]] * len(ROWS)
    keep("choice", backend.choice(ROWS, candidates, pool), len(ROWS))
    return found


def main() -> None:
    folder, out = sys.argv[1:]
    OPENED.append(resolve(folder, dtype="float32", engine="vllm").open())
    Path(out).write_text(json.dumps(numbers(OPENED[0])), encoding="utf-8")


if __name__ == "__main__":  # vLLM starts its engine's process by importing this module again
    main()
