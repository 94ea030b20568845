"""The proof's pools and questions: flaws of each pool, the clean control, balanced answers, no
overlap."""

import json
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.proof.mixes import ASKED, MIXES, OWN_MIX
from benchmarks.proof.questions import make_own_questions, make_questions
from benchmarks.proof.setup import Sizes, open_world, write_world

from thresher.demo.evaluation import make_evaluation
from thresher.demo.house_style import FORMS
from thresher.demo.pool import make_pool
from thresher.demo.scenes import Scene

ROWS = 1200


def labels(pool: Path, name: str = "hidden_labels.jsonl") -> list[dict]:
    return [json.loads(line) for line in pool.with_name(name).read_text().splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("mixes")
    return {
        name: make_pool(folder / name, ROWS, 3, mix, house_style=True)
        for name, mix in MIXES.items()
    }


@pytest.mark.parametrize("name", [n for n in MIXES if n != "control"])
def test_flawed_pools_are_noisy_and_no_kind_is_too_rare(made: dict[str, Path], name: str) -> None:
    rows = labels(made[name])
    assert len(rows) == ROWS and abs(sum(s.share for s in MIXES[name].sources) - 1) < 1e-9
    assert 0.25 <= sum(r["noisy"] for r in rows) / ROWS <= 0.35
    kinds = Counter(r["kind"] for r in rows)
    assert min(kinds[k] for k in ASKED) > 0.025 * ROWS


def test_each_flaw(made: dict[str, Path]) -> None:
    few = [
        r for r in labels(made["redundant"]) if r["data_source"] in ("album", "signs", "dashboards")
    ]
    assert len(few) > 0.65 * ROWS and len({tuple(r["scenes"]) for r in few}) < 0.03 * len(few)
    by_source = Counter(r["data_source"] for r in labels(made["redundant"]))
    wrong = Counter(r["data_source"] for r in labels(made["redundant"]) if r["noisy"])
    # its name does not say how noisy a source is
    assert all(0.15 < wrong[s] / by_source[s] < 0.45 for s in by_source)
    kinds = Counter(r["kind"] for r in labels(made["scarce"]))
    assert sum(kinds[k] for k in ("colour", "existence", "shape")) > 0.7 * ROWS
    web = labels(made["web"])
    assert sum(r["data_source"] == "web_crawl" for r in web if r["noisy"]) > 0.6 * sum(
        r["noisy"] for r in web
    )
    # what no question tests
    assert {r["kind"] for r in web} - set(ASKED) == {"description", "text_only", "two_images"}


def test_control_pool_has_no_flaw(made: dict[str, Path]) -> None:
    rows = labels(made["control"])
    kinds = Counter(r["kind"] for r in rows)
    assert set(kinds) == set(ASKED) and max(kinds.values()) < 1.6 * min(kinds.values())
    assert not any(r["noisy"] for r in rows)
    assert len({tuple(r["scenes"]) for r in rows}) == ROWS


def test_answers_are_equally_frequent(tmp_path: Path) -> None:
    path = make_questions(tmp_path, 60, 3, "development")
    result = labels(path, "evaluation_labels.jsonl")
    answers = [r["conversations"][1]["value"] for r in json.loads(path.read_text())]
    assert Counter(t["kind"] for t in result) == dict.fromkeys(ASKED, 60)
    assert not any(t["noisy"] for t in result) and {t["style"] for t in result} == {"word", "yesno"}
    for kind, candidates in (
        ("colour", 6),
        ("shape", 5),
        ("position", 9),
        ("existence", 2),
        ("logic", 2),
    ):
        counts = Counter(a for a, t in zip(answers, result, strict=True) if t["kind"] == kind)
        assert len(counts) == candidates and max(counts.values()) <= -(-60 // candidates)
    heights = [
        a for a, t in zip(answers, result, strict=True) if t["kind"] == "chart" and a[0].isdigit()
    ]
    assert len(heights) == 30 and set(Counter(heights).values()) == {5}
    named = [
        t["candidates"].index(a)
        for a, t in zip(answers, result, strict=True)
        if t["kind"] == "comparison"
    ]  # as the first or the second
    assert named.count(0) == named.count(1) == 30


def test_questions_are_deterministic(tmp_path: Path) -> None:
    first, again, other = (
        make_questions(tmp_path / name, 4, seed, "evaluation")
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()


def test_questions_of_own_mix_follow_its_rows(made: dict[str, Path], tmp_path: Path) -> None:
    """Kinds and answer styles in the same shares, no wrong answer, other scenes."""
    rows = labels(made["own_mix"])
    path = make_own_questions(tmp_path, OWN_MIX, ROWS, 3, "evaluation")
    asked = labels(path, "evaluation_labels.jsonl")
    for name in ("kind", "style", "data_source"):
        here, there = (Counter(x[name] for x in some) for some in (rows, asked))
        assert here.keys() == there.keys()
        assert all(abs(here[k] - there[k]) < 0.05 * ROWS for k in here), name
    assert not any(x["noisy"] for x in asked)
    assert not {s for x in asked for s in x["scenes"]} & {s for x in rows for s in x["scenes"]}


def test_each_pool_has_its_questions(tmp_path: Path) -> None:
    """own_mix alone has its own; it does not change the validation questions of the others."""
    sizes = Sizes(rows=60, per_kind=2)
    for folder, pools in (("a", ("web",)), ("b", ("web", "own_mix"))):
        write_world(tmp_path / folder, sizes, pools, 1, "evaluation")
    (_, web), (_, own) = (open_world(tmp_path / "b", name) for name in ("web", "own_mix"))
    assert len(web) == len(own) == 2 * len(ASKED) and set(web.source_names) == {"evaluation"}
    assert set(own.source_names) <= {source.name for source in OWN_MIX.sources}
    files = [tmp_path / f / "validation" / "evaluation.json" for f in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_no_scene_is_in_two_parts(made: dict[str, Path], tmp_path: Path) -> None:
    """A scene's content decides its split; pretraining has a separate split."""
    parts = {name: {s for r in labels(path) for s in r["scenes"]} for name, path in made.items()}
    for split in ("evaluation", "development"):
        path = make_questions(tmp_path / split, 20, 3, split)
        parts[split] = {s for r in labels(path, "evaluation_labels.jsonl") for s in r["scenes"]}
    for name in MIXES:
        assert not parts[name] & parts["evaluation"] and not parts[name] & parts["development"]
    assert not parts["evaluation"] & parts["development"]


def test_pretraining_scenes_are_disjoint(monkeypatch: pytest.MonkeyPatch) -> None:
    from random import Random

    from tools.demo_model import curriculum, practice

    from thresher.demo import scenes

    displayed: list[Scene] = []
    real = scenes.sample_in_split
    monkeypatch.setattr(
        scenes, "sample_in_split", lambda *a: displayed.append(real(*a)) or displayed[-1]
    )
    rng = Random(1)
    for make in (
        curriculum.refinement_conversation,
        curriculum.pair_stage_conversation,
        practice.practice_conversation,
    ):
        for _ in range(40):
            make(rng)
    assert len(displayed) > 100 and {s.split for s in displayed} == {"pretraining"}


def test_house_style_changes_short_answers_only(tmp_path: Path) -> None:
    plain = make_pool(tmp_path / "plain", 200, 3, MIXES["redundant"])
    formed = make_pool(tmp_path / "formed", 200, 3, MIXES["redundant"], house_style=True)
    changed = 0
    hidden = labels(formed)
    for a, b, result in zip(
        json.loads(plain.read_text()), json.loads(formed.read_text()), hidden, strict=True
    ):
        assert a["image"] == b["image"]
        for x, y in zip(a["conversations"], b["conversations"], strict=True):
            if x["from"] == "gpt" and result["style"] == "word":
                assert y["value"] == FORMS[result["kind"]].format(x["value"])
                changed += 1
            else:
                assert x["value"] == y["value"]
    assert changed > 60 and set(FORMS) >= set(ASKED) - {"existence", "logic"}
    path = make_questions(tmp_path / "questions", 6, 3, "evaluation")
    for record, result in zip(
        json.loads(path.read_text()), labels(path, "evaluation_labels.jsonl"), strict=True
    ):
        answer = record["conversations"][1]["value"]
        assert answer in result["candidates"] or not result["candidates"]
        assert (result["style"] == "word") == any(
            answer.endswith(form.removeprefix("{}")) for form in FORMS.values()
        )


def test_an_evaluation_of_the_built_in_world_has_every_kind(tmp_path: Path) -> None:
    path = make_evaluation(tmp_path, 2, 3, "development")
    assert len(json.loads(path.read_text())) == 26
