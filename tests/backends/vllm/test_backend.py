"""The backend on a stand-in for vLLM's engine has the numbers of transformers on the same tiny
models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.openai.asked_rows import collect
from tests.picture_rows import ROWS, Pictures, row
from tests.tiny_models import build
from tests.vllm_engine import LLM, Dead, SamplingParams
from tests.vllm_numbers import AFTER, QUERIES, SHOWN
from thresher.backends import resolve
from thresher.backends.hf.encode import Encoder, PromptEncoder
from thresher.backends.hf.traits import answer_ends
from thresher.backends.vllm.backend import VLLMBackend
from thresher.backends.vllm.engine import Engine
from thresher.errors import ConfigError, ModelError
from thresher.signals.query import Query, judge_prompt
from thresher.types import ImageRef, Sample, Turn

NAMES = ["qwen2_5_vl", "llava"]


@pytest.fixture(params=NAMES)
def folder(request: pytest.FixtureRequest) -> Path:
    return build(request.param)


def opened(llm: LLM) -> VLLMBackend:
    engine = Engine(llm, type("vllm", (), {"SamplingParams": SamplingParams}), (Dead,))
    encoder = Encoder(llm.processor)
    stops = answer_ends(llm.model.generation_config, encoder)
    return VLLMBackend(engine, encoder, PromptEncoder(llm.processor), stops)


def here(folder: Path) -> Any:
    return resolve(str(folder), device="cpu", dtype="float32").open()


def test_losses_and_texts(folder: Path) -> None:
    local, there = here(folder), opened(LLM(folder))
    texts, _ = collect(local.generate(ROWS, Pictures(), 6), len(ROWS))
    own = [
        Sample(f"{r.id} own", (*r.turns[:-1], Turn("assistant", str(text))), r.images)
        for r, text in zip(ROWS, texts["text"], strict=True)
        if text
    ]
    rows = [*ROWS, *own]
    want, _ = collect(local.answer_loss(rows, Pictures()), len(rows))
    got, errors = collect(there.answer_loss(rows, Pictures()), len(rows))
    assert errors == [""] * len(rows)
    assert got["tokens"].tolist() == want["tokens"].tolist()
    np.testing.assert_allclose(got["nll"], want["nll"], atol=1e-4)
    assert got["greedy_match"].tolist() == want["greedy_match"].tolist()
    written, errors = collect(there.generate(ROWS, Pictures(), 6), len(ROWS))
    assert errors == [""] * len(ROWS)
    for name in ("text", "tokens", "finished"):
        assert written[name].tolist() == texts[name].tolist()


@pytest.mark.parametrize("short", [False, True], ids=["filled", "left out"])
def test_losses_after_a_demonstration_read_the_prefix_cache(folder: Path, short: bool) -> None:
    llm = LLM(folder, short=short)
    there = opened(llm)
    want, _ = collect(here(folder).one_shot(AFTER, SHOWN, Pictures()), len(AFTER))
    for _ in range(2):  # the second time whole rows are cached, and run again
        got, errors = collect(there.one_shot(AFTER, SHOWN, Pictures()), len(AFTER))
        assert errors == [""] * len(AFTER)
        np.testing.assert_allclose(got["nll"], want["nll"], atol=1e-4)
    assert max(llm.cached) > 0
    assert len(llm.seen) > 2 * len(AFTER)


def test_questions_and_choices(folder: Path) -> None:
    prompts = [judge_prompt(r, "") for r in ROWS]
    local, there = here(folder), opened(LLM(folder))
    want, _ = collect(local.ask(prompts, QUERIES, Pictures()), len(prompts))
    got, errors = collect(there.ask(prompts, QUERIES, Pictures()), len(prompts))
    assert errors == [""] * len(prompts)
    np.testing.assert_allclose(got["logprob"], want["logprob"], atol=2e-4)
    candidates = [["red", "blue ball", "12"]] * len(ROWS)
    want, _ = collect(local.choice(ROWS, candidates, Pictures()), len(ROWS))
    got, errors = collect(there.choice(ROWS, candidates, Pictures()), len(ROWS))
    assert errors == [""] * len(ROWS)
    assert got["picked"].tolist() == want["picked"].tolist()
    np.testing.assert_allclose(got["margin"], want["margin"], atol=5e-4)


def test_answers_that_begin_with_the_same_token() -> None:
    there = opened(LLM(build("qwen2_5_vl")))
    prompts = [judge_prompt(ROWS[2], "")]
    with pytest.raises(ConfigError, match="begin with the same token"):
        collect(there.ask(prompts, [Query("\nRight?", ("Yes", "Yes."))], Pictures()), 1)


def test_rows_without_a_number() -> None:
    rows = [
        row("fine", "Is it red?", "No"),
        row("control", "Is it red?<|im_end|>", "No"),
        row("empty", "Is it red?", ""),
        Sample("broken", row("b", "<image>Is it?", "No").turns, (ImageRef("broken.png", size=1),)),
        row("long", "Is it red? " * 80, "No"),
        row("last", "Is it red?", "Yes"),
    ]
    there = opened(LLM(build("qwen2_5_vl"), context=120))
    values, errors = collect(there.answer_loss(rows, Pictures()), len(rows))
    assert errors[0] == errors[5] == "" and np.isfinite(values["nll"][[0, 5]]).all()
    assert errors[1].startswith("control-token: ") and errors[2].startswith("no-answer: ")
    assert "broken image" in errors[3]
    assert errors[4].startswith("too long: vLLM refuses the row: The decoder prompt (length")
    assert np.isnan(values["nll"][1:5]).all() and values["tokens"][1:5].tolist() == [0] * 4
    prompts = [judge_prompt(r, "") for r in (rows[0], rows[4])]
    asked, errors = collect(there.ask(prompts, [Query("\nOK?", ("Yes", "No"))], Pictures()), 2)
    assert errors[0] == "" and errors[1].startswith("too long: ")
    assert np.isfinite(asked["logprob"][0]).all() and np.isnan(asked["logprob"][1]).all()


def test_every_row_of_many_blocks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thresher.backends.vllm.backend.FIRST_ROWS", 2)
    there = opened(LLM(build("qwen2_5_vl")))
    rows = [row(f"q{i}", f"Is {i} a number?", "Yes, it is") for i in range(9)]
    pieces = list(there.answer_loss(rows, Pictures()))
    assert [piece.index.tolist() for piece in pieces] == [[0, 1], [2, 3], [4, 5, 6, 7], [8]]


def test_an_engine_that_has_stopped() -> None:
    llm = LLM(build("qwen2_5_vl"))
    llm.dead = True
    with pytest.raises(ModelError, match="engine has stopped"):
        collect(opened(llm).answer_loss(ROWS[:1], Pictures()), 1)
