"""Images that cannot be used: cleanvision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.peers.comparison import Comparison, Job, Tool

EVERY = 50  # one image in so many is damaged
DAMAGE = ("cut off", "empty", "text", "tiny")


def make(folder: Path, rows: int) -> None:
    from benchmarks.peers.pictures import picture

    (folder / "images").mkdir()
    damaged = []
    with (folder / "pool.jsonl").open("w", encoding="utf-8") as out:
        for row in range(rows):
            name = f"{row:06d}.jpg"
            path = folder / "images" / name
            image = picture(row)
            kind = DAMAGE[row // EVERY % len(DAMAGE)] if row % EVERY == EVERY - 1 else ""
            (image.resize((4, 4)) if kind == "tiny" else image).save(path, quality=90)
            if kind == "cut off":
                path.write_bytes(path.read_bytes()[:4000])
            elif kind in ("empty", "text"):
                path.write_text("" if kind == "empty" else "not an image\n")
            if kind:
                damaged.append(name)
            turns = [
                {"from": "human", "value": f"<image>\nWhat is in image {row}?"},
                {"from": "gpt", "value": f"Shapes number {row}."},
            ]
            out.write(json.dumps({"id": row, "image": name, "conversations": turns}) + "\n")
    (folder / "damaged.json").write_text(json.dumps(damaged))


def thresher(folder: Path, scratch: Path) -> Job:
    from thresher.doctor import find_problems
    from thresher.pools import open_pool

    kinds = ("empty-image", "not-an-image", "broken-image", "tiny-image")

    def run() -> list[str]:
        pool = open_pool(folder / "pool.jsonl", folder / "images")
        found = find_problems(pool, workers=1, near=True)
        rows = {row for kind in kinds if kind in found.rows for row in found.rows[kind].tolist()}
        return sorted(f"{row:06d}.jpg" for row in rows)

    return run


def cleanvision(folder: Path, scratch: Path) -> Job:
    import shutil

    from cleanvision import Imagelab
    from PIL import Image

    def run() -> list[str]:
        """As a user must: files that Pillow cannot decode are moved away first, because Imagelab
        ends with the exception of the first one."""
        (scratch / "images").mkdir()
        found = []
        for path in sorted((folder / "images").iterdir()):
            try:
                with Image.open(path) as image:
                    image.load()
            except Exception:  # noqa: BLE001 - Pillow raises many types for damaged files
                found.append(path.name)
            else:
                shutil.copyfile(path, scratch / "images" / path.name)
        lab = Imagelab(data_path=str(scratch / "images"), verbose=False)
        lab.find_issues(n_jobs=1, verbose=False)
        odd = lab.issues[lab.issues["is_odd_size_issue"]].index
        return sorted({*found, *(Path(name).name for name in odd)})

    return run


def judge(folder: Path, ours: Any, theirs: Any) -> tuple[str, bool]:
    damaged = set(json.loads((folder / "damaged.json").read_text()))
    found = len(damaged & set(theirs))
    wrong = len(set(theirs) - damaged)
    text = f"{found:,} of {len(damaged):,} damaged files, {wrong:,} other files"
    return text, damaged & set(theirs) >= damaged & set(ours) and wrong <= len(set(ours) - damaged)


COMPARISON = Comparison(
    title="Images that cannot be used",
    job=f"Find the damaged files among made-up pictures of 320 × 240 pixels: one in {EVERY} is cut "
    "off, empty, text, or 4 × 4 pixels. thresher: `doctor` with one thread, which also checks the "
    "conversations and finds exact and near duplicates. cleanvision: all default issues (dark, "
    "light, blurry, odd, duplicates); it raises an exception on a file that it cannot read, so the "
    "files are decoded with Pillow first and those that cannot be are moved away.",
    rows=500,
    make=make,
    thresher=Tool("thresher", thresher),
    peers=(Tool("cleanvision", cleanvision, "cleanvision", "cleanvision"),),
    judge=judge,
    few=20,
)
