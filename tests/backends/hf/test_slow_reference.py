"""The tiny models and the slow reference are correct, since the backend is compared with them."""

from __future__ import annotations

import math
import unicodedata
from typing import Any

import pytest
import torch

from tests.backends.hf.slow_reference import (
    answer_spans,
    messages_of,
    reference_one_shot,
    reference_rows,
    render,
    token_bytes,
)
from tests.tiny_models import Loaded, load, picture
from thresher.types import ImageRef, Sample, Turn

CAT, DOG = picture(120, 90, 1), picture(70, 130, 2)


def sample(*turns: tuple[str, str]) -> Sample:
    images = sum(text.count("<image>") for _, text in turns)
    refs = tuple(ImageRef(path=f"{i}.png", size=1) for i in range(images))
    return Sample(id="1", turns=tuple(Turn(role, text) for role, text in turns), images=refs)


ROWS: dict[str, tuple[tuple[tuple[str, str], ...], list[Any]]] = {
    "one image": ((("user", "<image>\nWhat is it?"), ("assistant", "Teal.")), [CAT]),
    "no image": ((("user", "What is two and two?"), ("assistant", "It is 4, of course.")), []),
    "two images": (
        (("user", "<image>\n<image>\nWhich is red?"), ("assistant", "The second one.")),
        [CAT, DOG],
    ),
    "two turns": (
        (
            ("user", "<image>\nA cat?"),
            ("assistant", "Yes."),
            ("user", "Sure?"),
            ("assistant", "Yes.\n\nI am sure."),
        ),
        [CAT],
    ),
    "system": ((("system", "Be brief."), ("user", "Is it?"), ("assistant", "No.")), []),
    "system and image": (
        (("system", "Be brief."), ("user", "<image>\nIs it?"), ("assistant", "No.")),
        [DOG],
    ),
    "image later": (
        (
            ("user", "Hello."),
            ("assistant", "USER: hello"),
            ("user", "Look: <image>"),
            ("assistant", "A dog!"),
        ),
        [DOG],
    ),
    "other scripts": ((("user", "<image>\nHow?"), ("assistant", "Zu\u0308rich, 日本 🙂")), [CAT]),
    "white space": ((("user", "<image>\nHow?"), ("assistant", "\n so  so ")), [CAT]),
    "echo": ((("user", "<image>\nassistant"), ("assistant", "assistant")), [CAT]),
}


def score(tiny: Loaded, name: str) -> tuple[dict[str, Any], Sample]:
    turns, images = ROWS[name]
    row = sample(*turns)
    return reference_rows(tiny.processor, tiny.model, messages_of(row), images), row


def spelled(tiny: Loaded, got: dict[str, Any], positions: list[int]) -> str:
    return b"".join(
        token_bytes(tiny.processor.tokenizer, got["input_ids"][p]) for p in positions
    ).decode()


def runs(positions: list[int]) -> list[list[int]]:
    """Consecutive positions, grouped."""
    groups: list[list[int]] = []
    for p in positions:
        if groups and groups[-1][-1] == p - 1:
            groups[-1].append(p)
        else:
            groups.append([p])
    return groups


# -------------------------------------------------------------------------------------- tiny models


def test_loss_depends_on_the_image(tiny: Loaded) -> None:
    messages = messages_of(sample(("user", "<image>\nWhat is it?"), ("assistant", "Teal.")))
    one, other = (
        reference_rows(tiny.processor, tiny.model, messages, [picture(120, 90, seed)])
        for seed in (1, 2)
    )
    assert one["input_ids"] == other["input_ids"]
    assert abs(one["nll"] - other["nll"]) > 1e-2


def test_order_of_two_images_matters(tiny: Loaded) -> None:
    messages = messages_of(sample(*ROWS["two images"][0]))
    same_size = [picture(90, 90, 3), picture(90, 90, 4)]
    one, other = (
        reference_rows(tiny.processor, tiny.model, messages, p)
        for p in (same_size, same_size[::-1])
    )
    assert abs(one["nll"] - other["nll"]) > 1e-3


def test_losses_are_spread(tiny: Loaded) -> None:
    """A model with nearly equal logits would hide errors."""
    got, _ = score(tiny, "two turns")
    values = [got["logprobs"][p] for p in got["answer_positions"]]
    assert max(values) - min(values) > 0.5


def test_system_turn_is_in_the_prompt(tiny: Loaded) -> None:
    """Whether a template wants a system turn as text or as a list, its words must reach the model,
    and nothing else."""
    for name in ("system", "system and image"):
        got, _ = score(tiny, name)
        text = spelled(tiny, got, list(range(len(got["input_ids"]))))
        assert "Be brief." in text and "'type'" not in text


def test_generates(tiny: Loaded) -> None:
    got, _ = score(tiny, "one image")
    out = tiny.model.generate(**got["inputs"], max_new_tokens=3, do_sample=False)
    assert out.shape[1] > len(got["input_ids"])


def test_llava_merges_the_space_before_an_answer() -> None:
    llava = load("llava")
    got, _ = score(llava, "one image")
    assert spelled(llava, got, got["answer_positions"][:1]) == " T"


# ------------------------------------------------------------------------------------ answer tokens


@pytest.mark.parametrize("name", ROWS)
def test_answer_tokens_spell_the_answers(tiny: Loaded, name: str) -> None:
    got, row = score(tiny, name)
    answers = [t.text for t in row.turns if t.role == "assistant"]
    trimmed = tiny.name == "mllama"
    normal = tiny.processor.tokenizer.backend_tokenizer.normalizer is not None
    groups = runs(got["own_positions"])
    # template tokens stand between two answers, and none of them counts
    assert len(groups) == len(answers)
    for group, answer in zip(groups, answers, strict=True):
        expected = answer.strip() if trimmed else answer
        expected = unicodedata.normalize("NFC", expected) if normal else expected
        text = spelled(tiny, got, group)
        assert expected in text
        # Only white space of the template may be left, at the borders.
        assert not text.replace(expected, "", 1).strip()
        # without its first token it is no longer the whole answer
        inner = spelled(tiny, got, group[1:])
        assert not inner.endswith(expected)
        assert tiny.processor.tokenizer.eos_token_id not in [got["input_ids"][p] for p in group]


def test_the_separator_counts_where_it_is_a_token_of_its_own() -> None:
    """SmolVLM writes "Assistant:" and then " 12": the space merges with a word, not with a
    number."""
    smol = load("smolvlm")
    turns = (("user", "How many?"), ("assistant", "12"), ("user", "Sure?"), ("assistant", "Yes."))
    got = reference_rows(smol.processor, smol.model, messages_of(sample(*turns)), [])
    extra = sorted(set(got["answer_positions"]) - set(got["own_positions"]))
    assert [spelled(smol, got, [p]) for p in extra] == [" "]
    assert extra[0] + 1 == got["own_positions"][0]


def test_answer_positions_by_hand() -> None:
    qwen = load("qwen2_5_vl")
    got, _ = score(qwen, "no image")
    tail = qwen.processor.tokenizer("It is 4, of course.<|im_end|>\n")["input_ids"]
    n = len(got["input_ids"])
    assert got["input_ids"][n - len(tail) :] == tail
    assert got["answer_positions"] == list(range(n - len(tail), n - 2))


def test_span_of_an_answer_that_also_occurs_in_the_question(tiny: Loaded) -> None:
    messages = messages_of(sample(*ROWS["echo"][0]))
    [(start, end)] = answer_spans(tiny.processor, messages)
    rendered = render(tiny.processor, messages)
    assert rendered[start:end] == "assistant"
    assert start == rendered.rindex("assistant")


# ------------------------------------------------------------------------------------------ numbers


def test_nll_is_the_loss_that_transformers_computes(tiny: Loaded) -> None:
    got, _ = score(tiny, "two turns")
    labels = torch.full((1, len(got["input_ids"])), -100)
    labels[0, got["answer_positions"]] = torch.tensor(got["input_ids"])[got["answer_positions"]]
    with torch.no_grad():
        loss = tiny.model(**got["inputs"], labels=labels).loss
    assert got["nll"] == pytest.approx(float(loss), abs=1e-5)
    assert got["tokens"] == int((labels >= 0).sum())


def test_first_token_has_no_probability(tiny: Loaded) -> None:
    got, _ = score(tiny, "one image")
    assert math.isnan(got["logprobs"][0]) and got["argmax"][0] == -1
    assert all(p > 0 for p in got["answer_positions"])


def test_greedy_match_equals_greedy_decoding(tiny: Loaded) -> None:
    """Ask until the model's own first token is a piece of text, give that text as the answer, and
    it must match."""

    def ask(question: int, answer: str) -> dict[str, Any]:
        turns = (
            ("user", f"<image>\n{('What', 'How many', 'Read')[question % 3]} {question}?"),
            ("assistant", answer),
        )
        return reference_rows(
            tiny.processor, tiny.model, messages_of(sample(*turns)), [picture(seed=question)]
        )

    for question in range(60):
        prompt = ask(question, "x")
        at = prompt["answer_positions"][0]
        text = token_bytes(tiny.processor.tokenizer, prompt["argmax"][at])
        if text.decode(errors="ignore").encode() != text or not text.strip():
            continue  # half a character, or white space
        texts = [ask(question, answer) for answer in (text.decode(), text.decode().strip())]
        same = [
            got
            for got in texts
            if got["input_ids"][: at + 1] == [*prompt["input_ids"][:at], prompt["argmax"][at]]
        ]
        same = [got for got in same if got["answer_positions"] == [at]]
        if same:
            break
    else:
        pytest.fail("no question made the model say a single ordinary token")
    assert same[0]["greedy_match"] is True
    assert prompt["greedy_match"] is False
    assert (
        ask(question, same[0]["answer_texts"][0] + " of the picture, say I")["greedy_match"]
        is False
    )


# ----------------------------------------------------------------------------------------- one shot


@pytest.mark.parametrize("query", ["one image", "system", "two turns"])
@pytest.mark.parametrize("demonstration", ["one image", "system"])
def test_one_shot_counts_only_the_query(tiny: Loaded, demonstration: str, query: str) -> None:
    displayed, asked = sample(*ROWS[demonstration][0]), sample(*ROWS[query][0])
    got = reference_one_shot(
        tiny.processor,
        tiny.model,
        messages_of(displayed),
        ROWS[demonstration][1],
        messages_of(asked),
        ROWS[query][1],
    )
    assert got["answer_texts"] == [t.text for t in asked.turns if t.role == "assistant"]
    alone, _ = score(tiny, query)
    assert [got["input_ids"][p] for p in got["answer_positions"]] == [
        alone["input_ids"][p] for p in alone["answer_positions"]
    ]
    assert got["nll"] != pytest.approx(alone["nll"], abs=1e-4)  # the demonstration is seen
