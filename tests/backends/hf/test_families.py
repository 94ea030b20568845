"""Families whose caches are more than keys and values of every token (recurrent states, sliding
windows shorter than a row), or whose masks differ from layer to layer. Against the slow
reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.backends.hf.opened_backends import borrowed, opened
from tests.backends.hf.random_rows import Images, ask, collect
from tests.backends.hf.slow_reference import messages_of, reference_one_shot, reference_rows
from tests.tiny_families import SPECIAL
from tests.tiny_models import Loaded, build, load
from thresher.backends import resolve
from thresher.backends.hf.backend import HFBackend
from thresher.backends.hf.images import Vision
from thresher.backends.hf.token_types import TokenTypeForward
from thresher.backends.hf.traits import stop_tokens
from thresher.errors import ModelError
from thresher.signals.query import Query, judge_prompt
from thresher.types import Sample, Turn

LONG = "Read the text in the document and answer the question. " * 6
ROWS = [
    ask("What is it?", "A cat, red. 12", "1"),
    ask("Is ice cold?", "Yes."),
    ask(LONG, "It is so. " * 12, "2"),
    ask("Which is larger?", "7 of 30", "3", "4"),
]
QUERIES = (
    Query("\nHow good is it, 0 to 5?", ("0", "3", "5")),
    Query("\nWhich style?", ("short description", "yes/no"), whole=True, end=False),
)


@pytest.fixture(scope="module", params=SPECIAL)
def family(request: pytest.FixtureRequest) -> Loaded:
    return load(request.param)


def images(row: Sample) -> list:
    return [Images().load_image(ref) for ref in row.images]


def test_losses_are_the_references(family: Loaded) -> None:
    backend = opened(family.name)
    values, errors = collect(backend.answer_loss(ROWS * 2, Images()), 2 * len(ROWS))
    assert not errors
    for i, row in enumerate(ROWS):
        want = reference_rows(family.processor, family.model, messages_of(row), images(row))
        assert values["tokens"][i] == want["tokens"]
        assert values["nll"][i] == pytest.approx(want["nll"], abs=1e-5)


def test_a_demonstration_is_reused_exactly_even_beyond_the_window(family: Loaded) -> None:
    backend = opened(family.name)
    assert backend.reuses_prefix == (family.name != "gemma4_both_ways")
    pairs = [(q, d) for d in (ROWS[2], ROWS[0]) for q in (*ROWS, ROWS[1])]
    before = backend.forward.tokens
    got, errors = collect(
        backend.one_shot([q for q, _ in pairs], [d for _, d in pairs], Images()), len(pairs)
    )
    reused = backend.forward.tokens - before
    assert not errors
    for i, (query, demo) in enumerate(pairs):
        want = reference_one_shot(
            *(family.processor, family.model, messages_of(demo), images(demo)),
            *(messages_of(query), images(query)),
        )
        assert got["nll"][i] == pytest.approx(want["nll"], abs=1e-5)
    if not backend.reuses_prefix:
        return
    with borrowed(family.name) as whole:
        whole.forward.reuses_prefix = False
        collect(whole.one_shot([q for q, _ in pairs], [d for _, d in pairs], Images()), len(pairs))
        assert whole.forward.tokens - before - reused > 1.5 * reused


def test_questions_share_the_row(family: Loaded) -> None:
    rows = [judge_prompt(row, "Be brief." if i else "") for i, row in enumerate(ROWS)]
    backend = opened(family.name)
    assert backend.query_mode == ("batched" if family.name == "qwen3_5" else "packed")
    got = answers(backend, rows)
    with borrowed(family.name) as slow:
        slow.forward.query_mode = "full"
        want = answers(slow, rows)
    np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)
    assert got.std() > 0.3


def answers(backend: HFBackend, rows: list[Sample]) -> np.ndarray:
    """float32 [rows, answers]: log-probabilities."""
    out = np.full((len(rows), sum(len(q.answers) for q in QUERIES)), np.nan, np.float32)
    for piece in backend.ask(rows, QUERIES, Images()):
        assert not any(piece.errors), piece.errors
        out[piece.index] = piece.values["logprob"]
    return out


def test_candidates_share_the_prompt(family: Loaded) -> None:
    candidates = [["A cat.", "7", "No, two."]] * len(ROWS)
    got, errors = collect(opened(family.name).choice(ROWS, candidates, Images()), len(ROWS))
    with borrowed(family.name) as slow:
        slow.forward.reuses_prefix = False
        want, _ = collect(slow.choice(ROWS, candidates, Images()), len(ROWS))
    assert not errors and (got["picked"] == want["picked"]).all()
    np.testing.assert_allclose(got["margin"], want["margin"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("n", [1, 3, 9])
def test_generated_text_is_that_of_plain_transformers(family: Loaded, n: int) -> None:
    backend = opened(family.name)
    rows = (ROWS * 3)[:n]
    got, errors = collect(backend.generate(rows, Images(), 5), n)
    assert not errors
    stops = sorted(stop_tokens(backend.forward.model, backend.encoder))
    for i, row in enumerate(rows[: len(ROWS)]):
        filled = iter(images(row))
        prompt = [
            {
                **m,
                "content": [
                    p | {"image": next(filled)} if p["type"] == "image" else p for p in m["content"]
                ],
            }
            for m in messages_of(row)[:-1]
        ]
        inputs = family.processor.apply_chat_template(
            *(prompt,), tokenize=True, return_dict=True, return_tensors="pt",
            add_generation_prompt=True,
        ).to(torch.float32)  # fmt: skip
        with torch.no_grad():
            out = family.model.generate(
                **inputs, max_new_tokens=5, do_sample=False, eos_token_id=stops
            )
        new = [t for t in out[0, inputs["input_ids"].shape[1] :].tolist() if t not in stops]
        text = family.processor.tokenizer.decode(new, skip_special_tokens=True).strip()
        assert got["text"][i] == text


def test_rows_that_end_early_leave_the_batch(family: Loaded) -> None:
    """The others' states must stay theirs."""
    backend = opened(family.name)
    rows = [ask(f"What is {i}?", "x") for i in range(20)]
    together, _ = collect(backend.generate(rows, Images(), 8), len(rows))
    for i in (0, 7, 19):
        single, _ = collect(backend.generate([rows[i]], Images(), 8), 1)
        assert single["text"][0] == together["text"][i]


def test_two_turns_are_scored(family: Loaded) -> None:
    more = (Turn("user", "Sure? " + LONG), Turn("assistant", "I am, 2."))
    row = Sample("0", (*ROWS[0].turns, *more), ROWS[0].images)
    got, errors = collect(opened(family.name).answer_loss([row], Images()), 1)
    want = reference_rows(family.processor, family.model, messages_of(row), images(row))
    assert not errors and got["nll"][0] == pytest.approx(want["nll"], abs=1e-5)


def test_image_tokens_see_each_other_in_the_sliding_layers_only() -> None:
    backend = opened("gemma4_both_ways")
    assert isinstance(backend.forward, TokenTypeForward)
    assert backend.forward.argument == "mm_token_type_ids"
    assert backend.forward.bidirectional_layers == {"sliding_attention"}
    assert not isinstance(opened("gemma4").forward, TokenTypeForward)
    want, _ = collect(backend.answer_loss(ROWS, Images()), len(ROWS))
    with borrowed("gemma4_both_ways") as causal:
        causal.forward.soft_token_id = -1
        got, _ = collect(causal.answer_loss(ROWS, Images()), len(ROWS))
    assert abs(want["nll"][0] - got["nll"][0]) > 1e-4
    assert want["nll"][1] == pytest.approx(got["nll"][1], abs=1e-6)


def test_a_model_that_gives_the_logits_of_all_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """MiniCPM-V 4.6 and VideoLLaMA 3 take no notice of `logits_to_keep`."""
    rows = [judge_prompt(row, "") for row in ROWS]
    with borrowed("llava") as backend:
        loss, _ = collect(backend.answer_loss(ROWS, Images()), len(ROWS))
        said, _ = collect(backend.generate(ROWS, Images(), 5), len(ROWS))
        judged = answers(backend, rows)
        forward = backend.forward.model.forward

        def all_positions(*args: Any, logits_to_keep: Any = None, **kwargs: Any) -> Any:
            return forward(*args, **kwargs)

        monkeypatch.setattr(backend.forward.model, "forward", all_positions)
        got, _ = collect(backend.answer_loss(ROWS, Images()), len(ROWS))
        np.testing.assert_allclose(got["nll"], loss["nll"], atol=1e-6, rtol=0)
        again, _ = collect(backend.generate(ROWS, Images(), 5), len(ROWS))
        assert again["text"].tolist() == said["text"].tolist()
        np.testing.assert_allclose(answers(backend, rows), judged, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "error", [IndexError("tuple index\nout of range"), TypeError("missing 1 argument"), KeyError()]
)
def test_what_a_models_code_raises_when_it_is_opened_is_one_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(Vision, "encode", fails)
    with pytest.raises(ModelError, match="is a llava, which thresher cannot run") as caught:
        resolve(str(build("llava"))).open()
    assert "\n" not in str(caught.value) and type(error).__name__ in str(caught.value)
