"""Near-duplicate images: imagededup."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from unittest.mock import MagicMock

from benchmarks.peers.comparison import Comparison, Job, Tool
from benchmarks.peers.copies import Planted, judge_copies

COPIES = 10  # one image in so many is a copy
OTHER_COLOURS = 20  # one in so many has another one's shapes in other colours, and is no copy
TORCHVISION = (
    *("torchvision", "torchvision.transforms", "torchvision.models"),
    "torchvision.models.vision_transformer",
)


def make(folder: Path, rows: int) -> None:
    from benchmarks.peers.pictures import picture, write_copy
    from PIL import Image

    (folder / "images").mkdir()
    rng = random.Random(0)
    copies = []
    with (folder / "pool.jsonl").open("w", encoding="utf-8") as out:
        for row in range(rows):
            name = f"{row:06d}.jpg"
            if row % COPIES == COPIES - 1:
                original = rng.randrange(row)
                original -= original % COPIES == COPIES - 1  # not a copy of a copy,
                original -= original % OTHER_COLOURS == 1  # nor of the next kind
                write_copy(picture(original), folder / "images" / name, row // COPIES)
                copies.append((row, original))
            elif row % OTHER_COLOURS == 1:
                red, green, blue = picture(row - 1).split()
                image = Image.merge("RGB", (blue, green, red))
                image.save(folder / "images" / name, quality=90)
            else:
                picture(row).save(folder / "images" / name, quality=90)
            turns = [
                {"from": "human", "value": "<image>\nWhat is in the image?"},
                {"from": "gpt", "value": "Several shapes of different colours."},
            ]
            out.write(json.dumps({"id": row, "image": name, "conversations": turns}) + "\n")
    Planted(rows, copies, sorted({row for pair in copies for row in pair})).write(folder)


def thresher(folder: Path, scratch: Path) -> Job:
    from benchmarks.peers.ours import deduplicate

    return lambda: deduplicate(folder / "pool.jsonl", scratch, "near", folder / "images")


def imagededup(folder: Path, scratch: Path) -> Job:
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):  # RuntimeError: made for another torch
        # imported by the package for its CNN, which is not used here
        for name in TORCHVISION:
            sys.modules[name] = MagicMock()
    from imagededup.methods import PHash

    def run() -> list[int]:
        duplicates = PHash(verbose=False).find_duplicates(
            image_dir=str(folder / "images"), num_enc_workers=0, num_dist_workers=0
        )
        dropped: set[str] = set()
        for name in sorted(duplicates):  # the first of each group stays
            if name not in dropped:
                dropped.update(duplicates[name])
        return sorted(int(Path(name).stem) for name in duplicates if name not in dropped)

    return run


COMPARISON = Comparison(
    title="Near-duplicate images",
    job="Keep one of each group of similar images: made-up pictures of 320 × 240 pixels, one in "
    f"{COPIES} written again as a JPEG of lower quality, as it is, smaller or slightly darker. One "
    f"in {OTHER_COLOURS} is another picture with red and blue exchanged, which must stay: another "
    "answer is right for it. thresher: `--dedup near` on a pool with one row per image, including "
    "opening the pool. imagededup: `PHash().find_duplicates` with its default distance.",
    rows=500,
    make=make,
    thresher=Tool("thresher", thresher),
    peers=(
        Tool(
            "imagededup",
            imagededup,
            "imagededup",
            "imagededup",
            why="computes 64 bits from a grey picture of 32 × 32 pixels. thresher also hashes the "
            "file (the identity under which results are stored) and all pixels (exact copies), "
            "computes a second hash, and compares the colours of 8 × 8 fields, because hashes of "
            "grey pictures do not tell a red shape from a blue one. That is about half of its "
            "time.",
        ),
    ),
    judge=judge_copies,
    few=20,
)
