"""The pools that are made to break methods: each has the fault that it promises, and no other."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from benchmarks.proof.breaking import POOLS, make_breaking, read_labels
from benchmarks.proof.mixes import ASKED
from benchmarks.proof.setup import Sizes

from thresher.answers.normalise import normalise

ROWS = 600
SIZES = Sizes(rows=ROWS, per_kind=6)


def no_answers(path: Path) -> dict[str, str]:
    raise AssertionError("only own_answers asks the base")


def made(folder: Path, name: str, answers: Any = no_answers) -> tuple[list[Any], list[Any]]:
    """The pool's records and hidden labels."""
    make_breaking(folder, name, SIZES, answers)
    records = json.loads((folder / "pool.json").read_text("utf-8"))
    labels = read_labels(folder)
    assert [r["id"] for r in records] == [label["id"] for label in labels]
    assert ROWS - 20 <= len(records) <= ROWS  # rows that repeat a question are removed
    return records, labels


def wrong(labels: list[Any], kind: str | None = None) -> float:
    of_kind = [label for label in labels if kind is None or label["kind"] == kind]
    return sum(label["noisy"] for label in of_kind) / len(of_kind)


def asked(folder: Path) -> Counter[str]:
    lines = (folder / "questions" / "evaluation_labels.jsonl").read_text("utf-8").splitlines()
    return Counter(json.loads(line)["kind"] for line in lines)


@pytest.fixture(scope="module")
def one_skill(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any], list[Any]]:
    """The folder, records and labels of the pool with noise in one skill."""
    folder = tmp_path_factory.mktemp("one_skill")
    return (folder, *made(folder, "one_skill"))


def test_noise_in_one_skill(one_skill: tuple[Path, list[Any], list[Any]]) -> None:
    folder, _, labels = one_skill
    assert 0.4 < wrong(labels, "position") < 0.8
    assert wrong([x for x in labels if x["kind"] != "position"]) < 0.1
    assert asked(folder) == dict.fromkeys(ASKED, 6)


@pytest.mark.parametrize("wrongly", ["existence", "colour"])
def test_the_bases_own_answers_are_given_where_they_are_wrong(tmp_path: Path, wrongly: str) -> None:
    """A base that knows one kind only, and gives a fixed answer to the others."""
    said: dict[str, str] = {}

    def answers(path: Path) -> dict[str, str]:
        always = {"existence": "No.", "colour": "red"}
        labels = read_labels(path.parent)
        said.update({x["id"]: always[wrongly] if x["kind"] == wrongly else "?" for x in labels})
        return said

    records, labels = made(tmp_path, "own_answers", answers)
    assert {x["kind"] for x in labels if x["noisy"]} == {wrongly}
    assert wrong(labels, wrongly) > 0.3
    own = {"no", "red colour"}
    for record, label in zip(records, labels, strict=True):
        if label["noisy"]:
            given = record["conversations"][1]["value"]
            assert given in label["candidates"] and normalise(given) in own


def test_a_rare_skill_is_clean_and_asked(tmp_path: Path) -> None:
    _, labels = made(tmp_path, "rare_hard")
    assert sum(x["kind"] == "count" for x in labels) == round(0.03 * ROWS)
    assert wrong(labels, "count") == 0 and 0.1 < wrong(labels) < 0.3
    assert asked(tmp_path) == dict.fromkeys((*ASKED, "count"), 6)


def test_copies_are_reworded_and_share_image_and_answer(tmp_path: Path) -> None:
    records, labels = made(tmp_path, "near_copies")
    copied = [r for r, x in zip(records, labels, strict=True) if x.get("copied")]
    assert 0.65 * ROWS < len(copied) <= 0.7 * ROWS
    groups = Counter((r["image"], r["conversations"][1]["value"].lower()) for r in copied)
    assert len(groups) <= 0.1 * ROWS and min(groups.values()) >= 6
    questions = {(r["image"], r["conversations"][0]["value"]) for r in copied}
    assert len(questions) > 0.9 * len(copied)


def test_half_of_the_rows_have_no_image(tmp_path: Path) -> None:
    records, labels = made(tmp_path, "half_text")
    bare = [r for r in records if "image" not in r]
    assert abs(len(bare) / len(records) - 0.5) < 0.03
    assert len(bare) == sum(POOLS["half_text"].special(x) for x in labels)


def test_a_pool_is_made_once_and_is_the_same_anywhere(
    one_skill: tuple[Path, list[Any], list[Any]], tmp_path: Path
) -> None:
    folder, first, _ = one_skill
    again, _ = made(folder, "one_skill")
    other, _ = made(tmp_path, "one_skill")
    assert first == again == other
