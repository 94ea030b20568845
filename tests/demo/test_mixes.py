"""The named mixes: the faults that each promises, the clean control, and scenes and words that no two parts share."""

import json
from collections import Counter
from pathlib import Path

import pytest

from thresher.demo.evaluation import make_evaluation
from thresher.demo.house_style import FORMS
from thresher.demo.mixes import MIXES
from thresher.demo.pool import make_pool
from thresher.demo.questions import KINDS
from thresher.demo.scenes import Scene

ROWS = 1200


def labels(pool: Path) -> list[dict]:
    return [json.loads(line) for line in pool.with_name("hidden_labels.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("mixes")
    return {name: make_pool(folder / name, ROWS, 3, name, house_style=True) for name in MIXES}


@pytest.mark.parametrize("name", [n for n in MIXES if n != "control"])
def test_faulty_pools_are_noisy_and_hold_every_kind(made: dict[str, Path], name: str) -> None:
    rows = labels(made[name])
    assert len(rows) == ROWS and abs(sum(s.share for s in MIXES[name].sources) - 1) < 1e-9
    assert 0.25 <= sum(r["noisy"] for r in rows) / ROWS <= 0.35
    assert {r["kind"] for r in rows} >= set(KINDS)


def test_each_fault(made: dict[str, Path]) -> None:
    few = [r for r in labels(made["redundant"]) if r["data_source"] in ("album", "signs", "dashboards")]
    assert len(few) > 0.65 * ROWS and len({tuple(r["scenes"]) for r in few}) < 0.03 * len(few)
    by_source = Counter(r["data_source"] for r in labels(made["redundant"]))
    wrong = Counter(r["data_source"] for r in labels(made["redundant"]) if r["noisy"])
    assert all(0.15 < wrong[s] / by_source[s] < 0.45 for s in by_source)  # its name does not say how noisy a source is
    kinds = Counter(r["kind"] for r in labels(made["scarce"]))
    assert sum(kinds[k] for k in ("colour", "existence", "shape")) > 0.7 * ROWS and kinds["odd_one_out"] < 0.02 * ROWS


def test_the_control_has_no_fault(made: dict[str, Path]) -> None:
    rows = labels(made["control"])
    kinds = Counter(r["kind"] for r in rows)
    assert set(kinds) == set(KINDS) and max(kinds.values()) < 1.6 * min(kinds.values())
    assert not any(r["noisy"] for r in rows)
    assert len({tuple(r["scenes"]) for r in rows}) == ROWS


def test_no_scene_is_in_two_parts(made: dict[str, Path], tmp_path: Path) -> None:
    """By the split that a scene's content gives it; pretraining draws from a split of its own."""
    parts = {name: {s for r in labels(path) for s in r["scenes"]} for name, path in made.items()}
    for split in ("evaluation", "development"):
        make_evaluation(tmp_path / split, 10, 3, split)
        lines = (tmp_path / split / "evaluation_labels.jsonl").read_text().splitlines()
        parts[split] = {s for line in lines for s in json.loads(line)["scenes"]}
    for name in MIXES:
        assert not parts[name] & parts["evaluation"] and not parts[name] & parts["development"]
    assert not parts["evaluation"] & parts["development"]


def test_scenes_of_pretraining_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from random import Random

    from thresher.demo import curriculum, practice, scenes

    shown: list[Scene] = []
    real = scenes.sample_in_split
    monkeypatch.setattr(scenes, "sample_in_split", lambda *a: shown.append(real(*a)) or shown[-1])
    rng = Random(1)
    for make in (
        curriculum.refinement_conversation,
        curriculum.pair_stage_conversation,
        practice.practice_conversation,
    ):
        for _ in range(40):
            make(rng)
    assert len(shown) > 100 and {s.split for s in shown} == {"pretraining"}


def test_house_style_changes_short_answers_only(tmp_path: Path) -> None:
    plain = make_pool(tmp_path / "plain", 200, 3, "redundant")
    formed = make_pool(tmp_path / "formed", 200, 3, "redundant", house_style=True)
    changed = 0
    hidden = labels(formed)
    for a, b, told in zip(json.loads(plain.read_text()), json.loads(formed.read_text()), hidden, strict=True):
        assert a["image"] == b["image"]
        for x, y in zip(a["conversations"], b["conversations"], strict=True):
            if x["from"] == "gpt" and told["style"] == "word":
                assert y["value"] == FORMS[told["kind"]].format(x["value"])
                changed += 1
            else:
                assert x["value"] == y["value"]
    assert changed > 60 and set(FORMS) == set(KINDS) - {"existence", "logic"}
    path = make_evaluation(tmp_path / "evaluation", 6, 3, house_style=True)
    told = [json.loads(line) for line in path.with_name("evaluation_labels.jsonl").read_text().splitlines()]
    for record, label in zip(json.loads(path.read_text()), told, strict=True):
        answer = record["conversations"][1]["value"]
        assert answer in label["candidates"] or not label["candidates"]
        assert (label["style"] == "word") == any(answer.endswith(form.removeprefix("{}")) for form in FORMS.values())


def test_an_unknown_mix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="crawl, redundant, scarce, control"):
        make_pool(tmp_path, 10, 0, "crwal")
