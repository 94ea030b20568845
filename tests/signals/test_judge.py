"""Judges and styles: scores from probabilities, many signals in one pass, and warnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thresher.backends.fake import IDENTITY, FakeBackend
from thresher.errors import ConfigError
from thresher.fingerprint import fingerprint
from thresher.signals.capabilities import CAPABILITIES, STYLES, Capability, read_capabilities
from thresher.signals.judge import SYSTEM, Judge
from thresher.signals.query import Query, format_exchanges, judge_prompt
from thresher.signals.style import Style, WrittenStyles, style_bits, style_names
from thresher.types import ImageRef, Sample, SampleSource, Scored, Turn

OCR = CAPABILITIES[-1]


def sample(*texts: str, images: int = 0) -> Sample:
    roles = ("user", "assistant") * len(texts)
    turns = tuple(Turn(role, text) for role, text in zip(roles, texts, strict=False))
    return Sample("7", turns, tuple(ImageRef(f"{i}.png", size=1) for i in range(images)))


class Scripted:
    """Answers with given log-probabilities; counts the rows and queries of each call."""

    def __init__(self, logprob: Sequence[float], error: str = "") -> None:
        self.logprob, self.error = logprob, error
        self.calls: list[tuple[Sequence[Sample], Sequence[Query]]] = []

    def ask(
        self, samples: Sequence[Sample], queries: Sequence[Query], pool: SampleSource
    ) -> Iterator[Scored]:
        self.calls.append((samples, queries))
        table = np.tile(np.array(self.logprob, np.float32), (len(samples), 1))
        order = np.arange(len(samples))[::-1]
        yield Scored(order, {"logprob": table}, [self.error if i == 0 else "" for i in order])


def only(pieces: Iterator[Scored]) -> Scored:
    (piece,) = pieces
    return piece


# ----------------------------------------------------------------------------------------- the body


def test_exchanges_are_formatted_like_the_official_code() -> None:
    row = sample("<image>\nWhat is it?", "A cat.", "Sure?\n", "Yes.", images=1)
    assert (
        format_exchanges(row)
        == "Question: <image>\nWhat is it? Answer: A cat.\nQuestion: Sure?\n Answer: Yes."
    )
    for hint in ("Hint: choose one.\nWhich?", "<image>\nHint: choose one.\nWhich?"):
        assert format_exchanges(sample(hint, "B", images=1)) == f"{hint} Answer: B"


def test_letters_of_the_text_are_preserved() -> None:
    """`.strip('Question: ')` of the official code takes letters off the ends."""
    assert format_exchanges(sample("Questions on tennis", "none")) == (
        "Question: Questions on tennis Answer: none"
    )


def test_images_stay_where_the_row_has_them() -> None:
    row = sample("Compare <image> and <image>.", "Same", "And <image>\n?", "No <image>", images=4)
    out = judge_prompt(row, SYSTEM)
    assert out.turns[0] == Turn("system", SYSTEM) and out.images == row.images
    assert out.turns[1].text == (
        "Question: Compare <image> and <image>. Answer: Same\n"
        "Question: And <image>\n? Answer: No <image>"
    )


def test_images_of_turns_that_are_left_out_are_left_out() -> None:
    row = sample("<image>\nWhat?", "A cat.", "And <image>?", images=2)
    turns = (Turn("system", "As in <image>."), *row.turns)
    refs = tuple(ImageRef(path=f"{k}.png") for k in range(3))
    out = judge_prompt(Sample("1", turns, refs), "")
    assert out.images == refs[1:2]
    assert out.turns == (Turn("user", "Question: <image>\nWhat? Answer: A cat."),)


def test_rows_of_any_form_can_be_formatted() -> None:
    assert format_exchanges(sample("", "Yes.")) == "Question:  Answer: Yes."
    settings = Sample(
        "1",
        (Turn("system", "Be brief."), Turn("user", "a"), Turn("user", "b"), Turn("assistant", "c")),
    )
    assert format_exchanges(settings) == "Question: a\nb Answer: c"
    assert format_exchanges(
        Sample("1", (*settings.turns, Turn("user", "never answered")))
    ) == format_exchanges(settings)
    assert [t.role for t in judge_prompt(settings, "").turns] == ["user"]


# ------------------------------------------------------------------------------------------- scores


def test_the_score_is_the_expected_answer() -> None:
    p = np.array([0.05, 0.05, 0.1, 0.2, 0.05, 0.05])
    piece = only(
        Judge(IDENTITY, OCR).rows([sample("a", "b")], None, Scripted(np.log(p).tolist()), None)
    )  # type: ignore[arg-type]
    assert piece.values["score"][0] == pytest.approx(
        float((p * np.arange(6)).sum() / 0.5), abs=1e-5
    )
    assert piece.values["best"][0] == 3 and piece.values["mass"][0] == pytest.approx(0.5)


def test_tiny_probabilities_and_absent_answers_still_score() -> None:
    far = [-400.0, -np.inf, -np.inf, -np.inf, -np.inf, -400.0]
    piece = only(Judge(IDENTITY, OCR).rows([sample("a", "b")], None, Scripted(far), None))  # type: ignore[arg-type]
    assert piece.errors == [""] and piece.values["score"][0] == 2.5 and piece.values["mass"][0] == 0


@pytest.mark.parametrize(
    "nothing", [[-np.inf] * 6, [np.nan] * 6, [np.nan, -1.0, -1.0, -1.0, -1.0, -1.0]]
)
def test_no_probability_at_all_is_a_failure_of_the_row(nothing: list[float]) -> None:
    piece = only(Judge(IDENTITY, OCR).rows([sample("a", "b")], None, Scripted(nothing), None))  # type: ignore[arg-type]
    assert "no finite probability" in piece.errors[0]


def test_a_style_is_chosen_above_its_even_share() -> None:
    styles = ("yes/no", "coordinate", "comparison")

    def chosen(*p: float) -> list[bool]:
        signals = [Style(IDENTITY, s, styles) for s in styles]
        (pieces,) = Style.batch_rows(
            signals, [sample("a", "b")], None, Scripted(np.log(p).tolist()), None
        )  # type: ignore[arg-type]
        return [bool(x.values["chosen"][0]) for x in pieces]

    assert chosen(0.3, 0.3, 0.1) == [True, True, False]
    assert chosen(0.01, 0.0001, 0.001) == [True, False, False]
    assert chosen(0.1, 0.1, 0.1) == [True, True, True]


def test_all_signals_of_a_row_are_asked_in_one_call() -> None:
    signals: list[Any] = [
        *(Judge(IDENTITY, c) for c in CAPABILITIES),
        *(Style(IDENTITY, s) for s in STYLES),
    ]
    assert (
        len({s.batch_key() for s in signals}) == 1 and len({fingerprint(s) for s in signals}) == 23
    )
    values = np.log(np.linspace(0.01, 0.1, 14 * 6 + 9)).tolist()
    backend = Scripted(values, "broken image")
    rows = [sample(f"q{i}", "a") for i in range(3)]
    (pieces,) = Judge.batch_rows(signals, rows, None, backend, None)  # type: ignore[arg-type]
    ((given, queries),) = backend.calls
    assert len(given) == 3 and len(queries) == 15
    for k, piece in enumerate(pieces):
        assert piece.index.tolist() == [2, 1, 0] and piece.errors == ["", "", "broken image"]
        if k < 14:
            alone = only(signals[k].rows(rows, None, Scripted(values[6 * k : 6 * k + 6], ""), None))
            np.testing.assert_array_equal(alone.values["score"], piece.values["score"])
        else:
            assert piece.values["logprob"][0] == pytest.approx(values[84 + k - 14])


def test_together_means_one_model_and_one_system_turn() -> None:
    other = Judge(IDENTITY, OCR, system="Be strict.")
    assert other.batch_key() != Judge(IDENTITY, OCR).batch_key()


def test_the_prompt_is_part_of_the_identity_and_the_definition_is_not() -> None:
    base = fingerprint(Judge(IDENTITY, OCR))
    assert fingerprint(Judge(IDENTITY, OCR, prompt="\nHow {capability}?")) != base
    assert fingerprint(Judge(IDENTITY, Capability("ocr", "another line", OCR.wording))) == base
    assert fingerprint(Judge(IDENTITY, Capability(OCR.name, "x", "other wording"))) != base


def test_official_wording() -> None:
    assert Judge(IDENTITY, OCR).query() == Query(
        "\nOn a scale of 0 to 5, how do you rate the helpfulness of the VQA instance in training "
        "a Multimodal Large Language Model for optical character recognition?",
        ("0", "1", "2", "3", "4", "5"),
    )
    text = Style(IDENTITY, "yes/no").query().text
    assert text.startswith(
        "\nInteraction style candidates: [multi-choice, coordinate, yes/no, word/short-phrase, "
    )
    assert text.endswith("chain-of-thought (step-by-step), specified style]\nStyles: ")
    assert [c.name for c in CAPABILITIES][4:7] == [
        "fine_grained_recognition",
        "language_generation",
        "in_context_learning",
    ]
    assert len(CAPABILITIES) == 14 and len(STYLES) == 9


# ----------------------------------------------------------------------------------- written styles


def test_generated_styles_are_parsed_and_failures_counted() -> None:
    says = {"q0": "yes/no, coordinate", "q1": "I do not know"}
    seen = []

    def writes(row: Sample) -> str:
        seen.append(row)
        return next(text for q, text in says.items() if q in row.turns[1].text)

    signal = WrittenStyles(IDENTITY)
    piece = only(
        signal.rows([sample(q, "a") for q in says], None, FakeBackend(writes=writes), None)
    )  # type: ignore[arg-type]
    assert piece.values["parsed"].tolist() == [True, False] and piece.errors == ["", ""]
    assert style_names(int(piece.values["styles"][0])) == ("coordinate", "yes/no")
    assert seen[0].turns[-1] == Turn("assistant", "") and seen[0].turns[1].text.endswith("Styles: ")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Chain-of-Thought (step-by-step)", {"chain-of-thought (step-by-step)"}),
        ("['multi-choice', \"comparison\"]", {"multi-choice", "comparison"}),
        ("- short description\n- yes/no.", {"short description", "yes/no"}),
        ("description, yes", set()),
        ("", set()),
    ],
)
def test_lists_of_styles(text: str, names: set[str]) -> None:
    assert set(style_names(style_bits(text))) == names


# --------------------------------------------------------------------------------- own capabilities


def test_user_capabilities_include_their_definition(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    for text in (
        "gauge_reading: reading a value off a dial\n",
        "- name: gauge_reading\n  definition: reading a value off a dial\n",
    ):
        file.write_text(text)
        (own,) = read_capabilities(file)
        assert own.name == "gauge_reading"
        assert (
            "for gauge reading (reading a value off a dial)?" in Judge(IDENTITY, own).query().text
        )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no names"),
        ("a: [", "is not YAML"),
        ("Gauge Reading: x", "'Gauge Reading'"),
        ("gauge: ''", "definition of one line"),
        ("humanities: the arts", "built-in"),
        ("gauge: a dial\ngauge: a scale", "'gauge' is given twice"),
        (
            "- {name: gauge, definition: a dial}\n- {name: gauge, definition: a scale}",
            "gauge twice",
        ),
        ("{}", "is empty"),
        ("- name: a", "has no names"),
    ],
)
def test_invalid_capability_files_are_reported(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_capabilities(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_capabilities(tmp_path / "absent.yaml")
