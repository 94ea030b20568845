"""The switch rule by hand, and the answer switch from prompts to columns with a scripted
teacher."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tests.methods.planted_columns import digests
from tests.signals.given_columns import TEACHER, Given
from thresher.errors import CapabilityError
from thresher.signals.answer_switch import AnswerSwitch, margin
from thresher.signals.case import LETTERS, Case, make_case
from thresher.signals.mistake import Mistake, switch_step
from thresher.signals.query import Query
from thresher.signals.sampled_switch import SampledSwitch, named_option
from thresher.types import Columns, Sample, Scored, Turn, seeded_ties


@pytest.mark.parametrize(
    ("margins", "delta", "lam", "step"),
    [
        ([-0.2, -0.1, 0.3, 0.4], 0.1, 1, 1),  # from the second step on
        ([-0.2, 0.3, 0.3], 0.1, 1, 0),  # at step 1
        ([-0.2, -0.1, 0.0], 0.1, 1, None),  # never
        ([-0.2, 0.1, 0.1], 0.1, 1, None),  # must be above delta
        (
            [-0.2, 0.3, -0.2, 0.4, 0.5],
            0.1,
            1,
            2,
        ),  # switches, switches back, and switches for the last time
        ([-0.2, 0.3, -0.2, 0.4, 0.5], 0.1, 0, 0),  # λ = 0: once is enough
        ([-0.2, 0.3, 0.4, -0.2, 0.4], 0.1, 1, 0),  # returns later than λ
        ([-0.2, 0.3, 0.4, -0.2, 0.4, 0.4, 0.4], 0.1, 2, 3),
        ([-0.2, -0.1, 0.4], 0.1, 3, 1),  # at the last step: no further step contradicts
        ([0.9, -0.1, -0.1], 0.1, 1, None),  # what was believed before any step does not count
        ([-0.2], 0.1, 1, None),
        ([], 0.1, 1, None),
    ],
)
def test_the_switch_rule(margins: list[float], delta: float, lam: int, step: int | None) -> None:
    assert switch_step(margins, delta, lam) == step


RATIONALE = "1. It has four legs.\n2. It barks.\n3. So it is a dog.\nAnswer: dog"


def inputs(texts: Sequence[str], answers: Sequence[str], **values: Any) -> Columns:
    n = len(texts)
    digest = np.sort(digests(n))
    by_name = {
        "rationale": {"text": np.array(texts, object), "answer": np.array(answers, object)},
        "others": {"answers": np.array(['["cow", "cat", "dog", "hen"]'] * n, object)},
        **values,
    }
    return Columns(digest, seeded_ties(digest, 0), np.zeros(n, np.int32), ("zoo",), by_name)


def row(i: int, question: str = "What is it?", answer: str = "cat") -> Sample:
    return Sample(str(i), (Turn("user", f"<image>\n{question}"), Turn("assistant", answer)))


def test_open_question_gets_four_shuffled_options() -> None:
    orders = []
    for i in range(12):
        sample = row(i, f"What is number {i}?")
        case = make_case(sample, RATIONALE, "dog", ["cow", "cat", "dog", "hen"], 0.6)
        assert case is not None
        assert (case.options[case.right], case.options[case.wrong]) == ("cat", "dog")
        assert sorted(case.options) == ["cat", "cow", "dog", "hen"]
        assert case.pieces == ("\n1. It has four legs.", "\n2. It barks.", "\n3. So it is a dog.")
        text = case.sample.turns[0].text
        assert f"What is number {i}?" in text and "<image>" not in text and not case.sample.images
        assert f"option ({LETTERS[case.right]}) is correct with a probability of 60%" in text
        orders.append(case.right)
    assert len(set(orders)) == 4  # the right answer is not always the same letter


def test_lettered_options_are_kept_and_another_answer_is_added() -> None:
    sample = row(0, "Which?\nA. red\nB. blue", "B")
    case = make_case(sample, "1. x y\n2. z\nAnswer: A", "A", [], 0.6)
    assert (
        case is not None and case.options == ("red", "blue") and (case.right, case.wrong) == (1, 0)
    )
    strange = make_case(sample, "1. x y\n2. z\nAnswer: green", "green", [], 0.6)
    assert (
        strange is not None and strange.options == ("red", "blue", "green") and strange.wrong == 2
    )


def test_no_case_without_an_answer() -> None:
    assert make_case(row(0), "", "", [], 0.6) is None


def test_margins_are_among_the_options() -> None:
    table = np.log(np.array([[0.3, 0.1, 0.1], [0.02, 0.06, 0.0001]]))
    assert margin(table, right=0, wrong=1).tolist() == pytest.approx([-0.4, 0.04 / 0.0801])
    assert np.isnan(margin(np.full((1, 2), -np.inf), 0, 1)).all()


@dataclass
class Reader:
    """Believes the right option until it has read `fooled_by`; counts what it was asked."""

    fooled_by: str
    can_ask_incrementally: bool = False
    asked: list[str] = field(default_factory=list)

    def line(self, text: str, options: Sequence[str]) -> np.ndarray:
        self.asked.append(text)
        right = text.index(") is correct with")
        letter = text[right - 1]
        p = np.full(len(options), 0.1)
        p[options.index(letter)] = 0.2 if self.fooled_by in text else 0.7
        if self.fooled_by in text:
            p[[o for o in range(len(options)) if options[o] != letter]] = 0.6
        return np.log(p)

    def ask(
        self, samples: Sequence[Sample], queries: Sequence[Query], pool: Any
    ) -> Iterator[Scored]:
        options = queries[0].answers
        for i in reversed(range(len(samples))):  # in any order
            table = self.line(samples[i].turns[0].text, options)[None]
            yield Scored(np.array([i]), {"logprob": table.astype(np.float32)}, [""])

    def ask_incrementally(
        self, samples: Sequence[Sample], pieces: Sequence[Sequence[str]], query: Query, pool: Any
    ) -> Iterator[Scored]:
        for i, sample in enumerate(samples):
            texts = [
                sample.turns[0].text + "".join(pieces[i][:t]) for t in range(len(pieces[i]) + 1)
            ]
            table = np.stack([self.line(t, query.answers) for t in texts])[None]
            yield Scored(np.array([i]), {"logprob": table.astype(np.float32)}, [""])

    def sample(
        self, samples: Sequence[Sample], pool: Any, n: int, temperature: float, most: int, seed: int
    ) -> Iterator[Scored]:
        for i, sample in enumerate(samples):
            text = sample.turns[0].text
            letter = text[text.index(") is correct with") - 1]
            other = "A" if letter != "A" else "B"
            message = other if self.fooled_by in text else f"({letter})"
            yield Scored(
                np.array([i]),
                {f"text_{k}": np.array([message if k else "I cannot say"]) for k in range(n)},
                [""],
            )


def collect(signal: Any, samples: Sequence[Sample], columns: Columns, backend: Any) -> list[str]:
    found: dict[int, str] = {}
    for piece in signal.rows(samples, columns, backend, None):
        assert not any(piece.errors)
        found.update(zip(piece.index.tolist(), piece.values["margins"], strict=True))
    return [found[i] for i in range(len(samples))]


@pytest.mark.parametrize("grows", [True, False])
def test_from_prompts_to_the_mistaken_step(grows: bool) -> None:
    samples = [row(0), row(1), row(2)]
    texts = [RATIONALE, "", RATIONALE]
    columns = inputs(texts, ["dog", "", "dog"])
    rationale: Any = Given("rationale")
    signal = AnswerSwitch(TEACHER, rationale, Given("others"))  # type: ignore[arg-type]
    reader = Reader("It barks", grows)
    margins = collect(signal, samples, columns, reader)
    assert margins[1] == "[]" and len(reader.asked) == 8
    assert [len(json.loads(m)) for m in margins] == [4, 0, 4]
    values = {**columns.values, "margins": {"margins": np.array(margins, object)}}
    values["rationale"] = {**values["rationale"], "right": np.array([False, False, True])}
    read = Columns(columns.digest, columns.ties, columns.source, columns.source_names, values)
    found = Mistake(rationale, signal).pool(read)
    assert found["step"].tolist() == [1, -1, -1]
    assert (
        found["text"].tolist() == ["It barks.", "", ""]
        and found["before"][0] == "It has four legs."
    )
    assert found["switched"].tolist() == found["chosen"].tolist() == [True, False, False]
    last = Mistake(rationale, None, "last").pool(read)
    assert last["step"].tolist() == [2, -1, -1] and not last["switched"].any()


def test_no_switch_marks_the_last_step() -> None:
    columns = inputs(
        [RATIONALE], ["dog"], margins={"margins": np.array(["[-0.5, -0.4, -0.3, -0.2]"], object)}
    )
    columns.values["rationale"]["right"] = np.array([False])  # type: ignore[index]
    found = Mistake(Given("rationale"), Given("margins")).pool(columns)  # type: ignore[arg-type]
    assert (
        found["step"].tolist() == [2]
        and found["switched"].tolist() == [False]
        and found["chosen"].tolist() == [True]
    )


def test_random_steps_are_uniform_and_reproducible() -> None:
    n = 300
    columns = inputs([RATIONALE] * n, ["dog"] * n)
    columns.values["rationale"]["right"] = np.zeros(n, bool)  # type: ignore[index]

    def draw(seed: int) -> list[int]:
        found = Mistake(Given("rationale"), None, "random", seed=seed).pool(columns)  # type: ignore[arg-type]
        return found["step"].tolist()

    assert draw(0) == draw(0) != draw(1)
    assert all(70 < draw(0).count(k) < 130 for k in range(3))


def test_sampled_answers_replace_probabilities_on_request() -> None:
    columns = inputs([RATIONALE], ["dog"])
    signal = SampledSwitch(TEACHER, Given("rationale"), Given("others"), draws=4)  # type: ignore[arg-type]
    (margins,) = collect(signal, [row(0)], columns, Reader("It barks"))
    found = json.loads(margins)
    assert found[:2] == [-0.75, -0.75]  # one draw in four names no option
    # whether the other option named is the student's
    assert found[2:] in ([0.75, 0.75], [0.0, 0.0])


def test_letters_are_parsed_strictly() -> None:
    case = Case(row(0), ("red", "blue"), 0, 1, ())
    assert [
        named_option(t, case)
        for t in ("B", "(b)", "Option A.", "Answer: B", "C", "Because", "I think B", "")
    ] == [
        1,
        1,
        0,
        1,
        None,
        None,
        None,
        None,
    ]


def test_unsupported_teacher_is_reported_with_a_remedy() -> None:
    class Mute:
        def ask(self, samples: Any, queries: Any, pool: Any) -> Iterator[Scored]:
            raise CapabilityError("The server gives no log-probabilities.")
            yield

    columns = inputs([RATIONALE], ["dog"])
    given: Any = Given("x")
    with pytest.raises(CapabilityError, match=r"no log-probabilities\. .*switch.*sample:8"):
        list(AnswerSwitch(TEACHER, given, given).rows([row(0)], columns, Mute(), None))  # type: ignore[arg-type]
    with pytest.raises(CapabilityError, match=r"switch.*logprobs"):
        list(SampledSwitch(TEACHER, given, given, 4).rows([row(0)], columns, Mute(), None))  # type: ignore[arg-type]
