"""Complete evaluations with planned models: prompts, scoring, failures and reuse of answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.evaluation.planted_model import Planted
from thresher.answers.candidates import expected
from thresher.errors import ConfigError, StoreError, TooManyFailures
from thresher.evaluation import Evaluation, check_rows, evaluate
from thresher.evaluation.report import check_output, write_evaluation
from thresher.pools import open_pool
from thresher.pools.pool import Pool
from thresher.storage.columns import Store
from thresher.types import Sample

COLOURS = ("red", "green", "blue")


def record(
    i: int, asked: str, answer: str, image: str | None = None, **extra: Any
) -> dict[str, Any]:
    turns = [
        {"from": "human", "value": ("<image>\n" if image else "") + asked},
        {"from": "gpt", "value": answer},
    ]
    return {"id": i, **({"image": image} if image else {}), **extra, "conversations": turns}


def records() -> list[dict[str, Any]]:
    """40 rows: 24 yes/no (10 of them yes) in source one, 12 colours and 4 letters in source two; 8
    images, 5 rows each."""
    out = []
    for i in range(24):
        answer = ("Yes", "No")[i >= 10]
        out.append(
            record(
                i, f"Is thing {i} red?", answer, f"{i % 8}.png", data_source="one", kind="exists"
            )
        )
    for i in range(24, 36):
        out.append(
            record(
                i,
                f"What colour is thing {i}?",
                COLOURS[i % 3],
                f"{i % 8}.png",
                data_source="two",
                kind="colour",
            )
        )
    for i in range(36, 40):
        options = "\nA. cat\nB. dog\nC. mouse"
        out.append(
            record(i, f"What is thing {i}?{options}", "B", f"{i % 8}.png", data_source="two")
        )
    return out


@pytest.fixture
def make(tmp_path: Path) -> Any:
    for i in range(8):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")

    def build(rows: list[dict[str, Any]] | None = None) -> Pool:
        file = tmp_path / "test.json"
        file.write_text(json.dumps(records() if rows is None else rows))
        return open_pool(file)

    return build


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def always(text: str) -> Planted:
    return Planted(lambda sample: text)


# -------------------------------------------------------------------------------------- what counts


@pytest.mark.parametrize("score", ["generate", "auto"])
def test_always_yes_is_correct_on_yes_rows_only(make: Any, store: Store, score: Any) -> None:
    found = evaluate(always("Yes").handle(), make(), score=score, store=store)
    assert (found.accuracy, found.n, found.failed) == (10 / 40, 40, 0)
    assert found.by["one"].accuracy == 10 / 24 and found.by["one"].n == 24
    assert found.by["two"].accuracy == 0 and found.by["two"].n == 16
    assert found.macro == pytest.approx((10 / 24 + 0) / 2)
    assert found.interval[0] < 0.25 < found.interval[1]
    assert found.scored == (
        {"generate": 40} if score == "generate" else {"choice": 28, "generate": 12}
    )


def test_perfect_model(make: Any, store: Store) -> None:
    model = Planted(
        lambda s: f" {expected(s).upper()}. " if expected(s) in COLOURS else expected(s)
    )
    found = evaluate(model.handle(), make(), store=store)
    assert found.accuracy == found.macro == found.relaxed == 1.0
    assert found.interval[1] == 1.0 and 0.5 < found.interval[0] < 1.0


def test_auto_chooses_the_scoring_per_row(make: Any, store: Store) -> None:
    rows = evaluate(always("Yes").handle(), make(), store=store).rows.to_pylist()
    assert [r["scored"] for r in rows] == ["choice"] * 24 + ["generate"] * 12 + ["choice"] * 4


def test_generated_letters_and_words_are_parsed(make: Any, store: Store) -> None:
    def says(sample: Sample) -> str:
        return {"B": "B. dog", "Yes": "Yes, it is there.", "No": "no."}.get(
            expected(sample), "light " + expected(sample)
        )

    found = evaluate(Planted(says).handle(), make(), score="generate", store=store)
    assert found.by["one"].accuracy == 1.0 and found.by["two"].accuracy == 4 / 16
    row = found.rows.to_pylist()[39]
    assert (row["said"], row["answer"], row["expected"], row["correct"]) == (
        "B. dog",
        "B",
        "B",
        True,
    )


@pytest.mark.parametrize(
    "thought", ["<think>no, or dog?</think>\n\n{}", "<think></think>{}", "I see.</think> {}"]
)
def test_reasoning_is_not_part_of_the_answer(make: Any, store: Store, thought: str) -> None:
    found = evaluate(
        Planted(lambda s: thought.format(expected(s))).handle(),
        make(),
        score="generate",
        store=store,
    )
    assert found.accuracy == 1.0
    row = found.rows.to_pylist()[39]
    assert row["said"].startswith(thought[:5]) and row["answer"] == row["expected"]


def test_unfinished_reasoning_is_no_answer(make: Any, store: Store) -> None:
    found = evaluate(always("<think>Yes, no, dog").handle(), make(), score="generate", store=store)
    assert found.accuracy == 0.0


def test_choice_of_all_rows_uses_the_answers_of_the_set(make: Any, store: Store) -> None:
    model = Planted(lambda s: "blue" if expected(s) in COLOURS else "Yes")
    found = evaluate(model.handle(), make(), score="choice", store=store)
    assert found.scored == {"choice": 40}
    text = {r["said"] for r in found.rows.to_pylist()[24:36]}
    assert text == {"blue"} and found.by["two"].accuracy == 4 / 16


def test_choice_refuses_open_answers(make: Any, store: Store) -> None:
    rows = [record(i, "What?", f"answer number {i}", "0.png") for i in range(40)]
    model = always("x")
    with pytest.raises(ConfigError, match=r'40 rows .*40 distinct answers.*score="auto"'):
        evaluate(model.handle(), make(rows), score="choice", store=store)
    assert model.opened == 0


def test_last_turn_is_evaluated(make: Any, store: Store) -> None:
    row = record(0, "What is it?", "A cat.", "0.png")
    row["conversations"] += [{"from": "human", "value": "Sure?"}, {"from": "gpt", "value": "No."}]
    found = evaluate(always("No.").handle(), make([row]), store=store)
    assert found.accuracy == 1.0 and found.rows.to_pylist()[0]["expected"] == "No."


def test_images_are_clusters(make: Any, store: Store) -> None:
    """Two equally accurate models: one is right on whole images (8), the other on any rows (32)."""
    rows = [record(i, f"What is {i}?", "x", f"{i % 8}.png") for i in range(32)]
    pool = make(rows)
    whole = evaluate(
        Planted(lambda s: "x" if s.images[0].path < "4" else "y").handle(), pool, store=store
    )
    number = {s.digest: i for i, s in enumerate(pool.samples(range(32)))}
    spread = Planted(lambda s: "x" if (number[s.digest] // 8 + number[s.digest]) % 2 else "y")
    some = evaluate(spread.handle(), pool, store=Store(store.root / "other"))
    assert whole.accuracy == some.accuracy == 0.5

    def width(e: Evaluation) -> float:
        return e.interval[1] - e.interval[0]

    assert width(whole) > 1.5 * width(some)


# ------------------------------------------------------------------------------------------- groups


def test_by_a_field_of_the_records(make: Any, store: Store) -> None:
    model = always("Yes")
    found = evaluate(model.handle(), make(), by="kind", store=store)
    assert {name: g.n for name, g in found.by.items()} == {"exists": 24, "colour": 12, "(none)": 4}
    assert found.macro == pytest.approx((10 / 24 + 0 + 0) / 3)
    asked = len(model.asked)
    evaluate(model.handle(), make(), by="source", store=store)
    assert len(model.asked) == asked, "another grouping asks nothing"


def test_an_unknown_field_is_refused(make: Any, store: Store) -> None:
    with pytest.raises(ConfigError, match=r"by=.kinds.*Did you mean 'kind'"):
        evaluate(always("Yes").handle(), make(), by="kinds", store=store)


def test_an_unknown_score_is_refused(make: Any, store: Store) -> None:
    with pytest.raises(ConfigError, match=r"score=.choices.*Did you mean 'choice'"):
        evaluate(always("Yes").handle(), make(), score="choices", store=store)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------- failures


def test_failures_are_counted_and_listed(make: Any, store: Store) -> None:
    rows = records()
    rows[0]["image"] = "gone.png"
    model = Planted(
        lambda s: "Yes", fails=lambda s: "too long" if "thing 30" in s.turns[0].text else ""
    )
    found = evaluate(model.handle(), make(rows), store=store, on_missing="exclude")
    assert (found.n, found.failed) == (38, 2)
    assert found.accuracy == 9 / 38, "a failed row is in no number"
    assert found.by["one"].failed == 1 and found.by["two"].failed == 1
    assert (
        any("no such image" in r and "gone.png" in r for r in found.failures)
        and found.failures["too long"] == 1
    )
    table = found.rows.to_pylist()
    assert (
        table[30]["error"] == "too long"
        and table[30]["correct"] is None
        and table[30]["answer"] is None
    )
    assert found.to_json()["failed"] == 2


def test_too_many_failures_are_an_error(make: Any, store: Store) -> None:
    def fails(sample: Sample) -> str:
        return "out of luck" if re.search(r"thing (1|25|37)\b", sample.turns[0].text) else ""

    with pytest.raises(TooManyFailures, match=r"3 of 40 .*out of luck.*on_missing=.exclude"):
        evaluate(Planted(lambda s: "Yes", fails=fails).handle(), make(), store=store)
    found = evaluate(always("Yes").handle(), make(), store=store, on_missing="exclude")
    assert found.failed == 3 and found.asked < 40, "the failures are stored"
    again = evaluate(always("Yes").handle(), make(), store=store, retry_errors=True)
    assert again.failed == 0 and again.n == 40


def test_missing_images_fail_before_the_model_is_opened(make: Any, store: Store) -> None:
    rows = records()
    for row in rows[:5]:
        row["image"] = "gone.png"
    model = always("Yes")
    with pytest.raises(TooManyFailures, match=r"5 of 40"):
        evaluate(model.handle(), make(rows), store=store)
    assert model.opened == 0


def test_invalid_rows_fail_without_a_model(make: Any) -> None:
    check_rows(make())
    rows = records()
    for row in rows[:5]:
        row["conversations"] = row["conversations"][:1]
    with pytest.raises(TooManyFailures, match=r"5 of 40 .*no assistant turn.*on_missing=.exclude"):
        check_rows(make(rows))
    check_rows(make(rows), on_missing="exclude")
    with pytest.raises(ConfigError, match=r"score=.choices"):
        check_rows(make(), score="choices")


def test_message_has_no_useless_advice_if_every_row_fails(make: Any) -> None:
    rows = [{**row, "image": "gone.png"} for row in records()[:36]]
    for on_missing in ("auto", "exclude"):
        with pytest.raises(TooManyFailures, match=r"None of the 36 rows.*gone\.png") as caught:
            check_rows(make(rows), on_missing=on_missing)  # type: ignore[arg-type]
        assert "on_missing" not in str(caught.value)


def test_nothing_left_to_evaluate(make: Any, store: Store) -> None:
    with pytest.raises((TooManyFailures, StoreError)):
        evaluate(
            Planted(lambda s: "x", fails=lambda s: "no").handle(),
            make(),
            store=store,
            on_missing="exclude",
        )


def test_truncated_answers_are_counted(make: Any, store: Store) -> None:
    found = evaluate(Planted(lambda s: "red", finished=False).handle(), make(), store=store)
    assert found.cut == 12


# --------------------------------------------------------------------------- nothing is asked twice


@pytest.mark.parametrize("after", [8, 30])
def test_interrupted_evaluation_resumes(make: Any, store: Store, after: int) -> None:
    """Stopped among the choices, and among the generated answers."""
    first = Planted(lambda s: "Yes", stop_after=after)
    with pytest.raises(KeyboardInterrupt):
        evaluate(first.handle(), make(), store=store)
    assert len(first.asked) >= after
    second = always("Yes")
    found = evaluate(second.handle(), make(), store=store)
    assert len(first.asked) + len(second.asked) == 40 and not set(first.asked) & set(second.asked)
    assert found.asked == len(second.asked)
    whole = evaluate(always("Yes").handle(), make(), store=Store(store.root / "fresh"))
    assert found.rows.equals(whole.rows) and {**found.to_json()} == {**whole.to_json()}
    third = always("something else")
    assert evaluate(third.handle(), make(), store=store).accuracy == found.accuracy
    assert third.opened == 0


def test_token_limit_is_part_of_the_identity(make: Any, store: Store) -> None:
    evaluate(always("red").handle(), make(), store=store, max_new_tokens=8)
    model = always("red")
    found = evaluate(model.handle(), make(), store=store, max_new_tokens=16)
    assert found.asked == 12, "choices do not depend on it"


def test_result_does_not_depend_on_file_order(make: Any, store: Store) -> None:
    forward = evaluate(always("Yes").handle(), make(), store=store)
    model = always("Yes")
    back = evaluate(model.handle(), make(records()[::-1]), store=store)
    assert not model.asked and back.interval == forward.interval and back.by == forward.by


# -------------------------------------------------------------------------------------------- files


def test_output_files(make: Any, store: Store, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    found = evaluate(always("Yes").handle(), make(), store=store)
    file = check_output(tmp_path / "deep" / "result.json")
    write_evaluation(found.to_json(), found.rows, file)
    content = json.loads(file.read_text())
    assert content["accuracy"] == 0.25 and content["n"] == 40 and len(content["interval"]) == 2
    assert set(content["by"]) == {"one", "two"} and content["by"]["one"]["n"] == 24
    assert (
        content["scored_by"] == {"choice": 28, "generate": 12} and "Wilson" in content["intervals"]
    )
    rows = pq.read_table(file.with_suffix(".parquet")).to_pylist()
    assert len(rows) == 40 and sum(r["correct"] for r in rows) == 10
    assert sorted(p.name for p in file.parent.iterdir()) == ["result.json", "result.parquet"]


def test_out_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.json"):
        check_output(tmp_path)
    with pytest.raises(ConfigError, match=r"\.json"):
        check_output(tmp_path / "result.txt")
