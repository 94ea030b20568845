"""Measures whether the demo model uses images and demonstrations: `python -m
tools.demo_model.measure_model`.

Queries and demonstrations come from evaluation scenes in the pool's wordings, neither of which the
model was trained on. NLL is the mean over queries of nats per answer token; greedy accuracy is
exact match of the whole greedy answer.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from tools.demo_model.curriculum import Conversation, one_round, same_kind_question, sample_format
from tools.demo_model.training import Encoded, answer_losses, encode
from transformers import AutoTokenizer, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from thresher.demo import MODEL_FOLDER
from thresher.demo.questions import KINDS, sample_question

CONDITIONS = {
    "none": "(a) no demonstration",
    "same": "(b) same kind, same style",
    "other": "(c) another kind, its own style",
    "wrong": "(d) same kind and style, wrong answer",
    "other_same_style": "another kind, same style",
    "blind": "no demonstration, image of another query",
}


@dataclass(frozen=True)
class Result:
    """For every query its kind, and for every condition the NLL per answer token and whether greedy
    decoding is correct."""

    kinds: tuple[str, ...]
    nll: dict[str, np.ndarray]
    greedy: dict[str, np.ndarray]


def load(folder: Path) -> tuple[LlavaForConditionalGeneration, PreTrainedTokenizerFast]:
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


@torch.inference_mode()
def score(
    model: LlavaForConditionalGeneration, rows: Sequence[Encoded], batch: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """Mean NLL of every row's answer tokens, and whether all of them are the greedy choice."""
    nll, greedy = np.zeros(len(rows)), np.zeros(len(rows), dtype=bool)
    order = sorted(range(len(rows)), key=lambda k: len(rows[k].ids))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        losses, right, row = answer_losses(model, [rows[k] for k in part])
        for position, k in enumerate(part):
            nll[k] = losses[row == position].mean().item()
            greedy[k] = bool(right[row == position].all())
    return nll, greedy


def conditions(
    rng: Random, kinds: Sequence[str], per_kind: int
) -> tuple[list[str], dict[str, list[Conversation]]]:
    """Kinds of the queries and, for every condition, the conversations that end with them."""
    labels: list[str] = []
    made: dict[str, list[Conversation]] = {c: [] for c in CONDITIONS}
    for kind in kinds:
        for _ in range(per_kind):
            form = sample_format(rng)
            question = sample_question(rng, kind, "evaluation")
            query = one_round(rng, question, form, "pool")
            shown = same_kind_question(rng, question, form.style, "evaluation")
            other = sample_question(rng, rng.choice([k for k in KINDS if k != kind]), "evaluation")
            labels.append(kind)
            made["none"].append([query])
            made["same"].append([one_round(rng, shown, form, "pool"), query])
            made["wrong"].append([one_round(rng, shown, form, "pool", wrong=True), query])
            made["other"].append([one_round(rng, other, sample_format(rng), "pool"), query])
            made["other_same_style"].append([one_round(rng, other, form, "pool"), query])
    images = [c[0].image for c in made["none"]]
    # the next query's image, cyclically within the kind
    for k, conversation in enumerate(made["none"]):
        start = k - k % per_kind
        made["blind"].append(
            [replace(conversation[0], image=images[start + (k - start + 1) % per_kind])]
        )
    return labels, made


def measure(
    folder: Path, per_kind: int = 100, seed: int = 0, kinds: Sequence[str] = KINDS
) -> Result:
    """Score `per_kind` queries of every kind under every condition."""
    torch.set_num_threads(1)
    model, tokenizer = load(folder)
    labels, made = conditions(Random(f"measure {seed}"), kinds, per_kind)
    scored = {
        c: score(model, [encode(tokenizer, x, only_last=True) for x in made[c]]) for c in CONDITIONS
    }
    return Result(
        tuple(labels), {c: s[0] for c, s in scored.items()}, {c: s[1] for c, s in scored.items()}
    )


def report(result: Result) -> str:
    """The result as two Markdown tables: all queries, and per kind."""
    lines = ["| condition | mean answer NLL (nats/token) | greedy accuracy |", "|---|---|---|"]
    for condition, name in CONDITIONS.items():
        nll, greedy = result.nll[condition], result.greedy[condition]
        error = nll.std(ddof=1) / len(nll) ** 0.5
        lines.append(f"| {name} | {nll.mean():.3f} ± {error:.3f} | {100 * greedy.mean():.1f}% |")
    lines += ["", f"{len(result.kinds)} queries; ± is the standard error.", ""]
    shown = ("none", "same", "other", "wrong")
    lines.append(
        "| kind | "
        + " | ".join(f"NLL {n}" for n in "abcd")
        + (" | accuracy a | accuracy b | accuracy blind |")
    )
    lines.append("|---" * 8 + "|")
    labels = np.array(result.kinds)
    for kind in dict.fromkeys(result.kinds):
        here = labels == kind
        cells = [f"{result.nll[c][here].mean():.3f}" for c in shown]
        cells += [f"{100 * result.greedy[c][here].mean():.0f}%" for c in ("none", "same", "blind")]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER, help="folder of the model")
    parser.add_argument("--per-kind", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.stdout.write(report(measure(arguments.model, arguments.per_kind, arguments.seed)) + "\n")


if __name__ == "__main__":
    main()
