"""The generated pool: deterministic, with the intended flaws, and no hidden label in the visible
file."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from thresher.demo.pool import SOURCES, make_evaluation, make_pool

HASH = """
import hashlib, sys
from pathlib import Path
from thresher.demo.pool import make_evaluation, make_pool
folder = Path(sys.argv[1])
make_pool(folder / "pool", 120, 5)
make_evaluation(folder / "evaluation", 3, 5)
digest = hashlib.sha256()
for path in sorted(folder.rglob("*")):
    if path.is_file():
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict], list[dict]]:
    path = make_pool(tmp_path_factory.mktemp("pool"), rows=2000, seed=1)
    labels = [
        json.loads(line) for line in (path.parent / "hidden_labels.jsonl").read_text().splitlines()
    ]
    return path.parent, json.loads(path.read_text()), labels


def test_pool_is_deterministic_across_processes(tmp_path: Path) -> None:
    digests = []
    for hash_seed in ("0", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", HASH, str(tmp_path / hash_seed)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.append(done.stdout.strip())
    assert digests[0] == digests[1]


def test_seeds_differ(tmp_path: Path) -> None:
    texts = [make_pool(tmp_path / str(seed), 50, seed).read_bytes() for seed in (0, 1)]
    assert hashlib.sha256(texts[0]).digest() != hashlib.sha256(texts[1]).digest()


def test_shape_of_the_pool(pool: tuple[Path, list[dict], list[dict]]) -> None:
    folder, rows, labels = pool
    assert len(rows) == len(labels) == 2000
    assert [r["id"] for r in rows] == [x["id"] for x in labels]
    assert len({r["id"] for r in rows}) == 2000
    shares = Counter(r["data_source"] for r in rows)
    assert len(shares) == len(SOURCES) == 9
    assert abs(shares["basic_vqa"] / 2000 - 0.33) < 0.01 and shares["exam"] == 30
    for row in rows:
        assert sorted(row) in (
            ["conversations", "data_source", "id"],
            ["conversations", "data_source", "id", "image"],
        )
        images = row.get("image", [])
        images = [images] if isinstance(images, str) else images
        assert sum(t["value"].count("<image>") for t in row["conversations"]) == len(images)
        assert [t["from"] for t in row["conversations"]] == ["human", "gpt"] * (
            len(row["conversations"]) // 2
        )
        for name in images:
            with Image.open(folder / name) as image:
                assert image.size == (48, 48) and image.mode == "RGB"


def test_pathologies(pool: tuple[Path, list[dict], list[dict]]) -> None:
    _, rows, labels = pool
    assert 0.25 <= sum(x["noisy"] for x in labels) / len(labels) <= 0.35
    noise = {s: [x["noisy"] for x in labels if x["data_source"] == s] for s in ("web_crawl", "ocr")}
    assert (
        sum(noise["web_crawl"]) / len(noise["web_crawl"])
        > 0.6
        > 0.2
        > sum(noise["ocr"]) / len(noise["ocr"])
    )
    redundant = [r["image"] for r in rows if r["data_source"] == "basic_vqa"]
    assert len(set(redundant)) <= 0.06 * len(redundant)
    assert sum("image" not in r for r in rows) == 200
    assert 10 < sum(len(r["conversations"]) > 2 for r in rows) < 200
    assert 5 < sum(isinstance(r.get("image"), list) for r in rows) < 60
    styles = Counter(x["style"] for x in labels)
    assert set(styles) == {"yesno", "word", "sentence", "steps", "choice", "description"}
    kinds = Counter(x["kind"] for x in labels)
    assert len(kinds) >= 14 and max(kinds.values()) > 20 * kinds["arithmetic"] > 0


def test_evaluation_is_balanced_and_disjoint(
    tmp_path: Path, pool: tuple[Path, list[dict], list[dict]]
) -> None:
    _, _, pool_labels = pool
    path = make_evaluation(tmp_path / "evaluation", per_kind=12, seed=0)
    labels = [
        json.loads(line)
        for line in (path.parent / "evaluation_labels.jsonl").read_text().splitlines()
    ]
    assert set(Counter(x["kind"] for x in labels).values()) == {12}
    assert not any(x["noisy"] for x in labels)
    answers = {r["id"]: r["conversations"][1]["value"] for r in json.loads(path.read_text())}
    yes_no = Counter(answers[x["id"]] for x in labels if x["style"] == "yesno")
    assert yes_no["Yes"] == yes_no["No"] == 12
    make_evaluation(tmp_path / "development", per_kind=12, seed=0, split="development")
    lines = (tmp_path / "development" / "evaluation_labels.jsonl").read_text().splitlines()
    scenes = [
        {s for x in part for s in x["scenes"]}
        for part in (labels, pool_labels, map(json.loads, lines))
    ]
    assert (
        all(scenes)
        and not scenes[0] & scenes[1]
        and not scenes[0] & scenes[2]
        and not scenes[1] & scenes[2]
    )
    with pytest.raises(ValueError, match="held-out"):
        make_evaluation(tmp_path / "x", split="pretraining")
