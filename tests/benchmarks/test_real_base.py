"""The base model of the real proof: packing, batches, resuming, two processes, all stages."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.real import stages
from benchmarks.real.card import chance, judge, other_pictures
from benchmarks.real.loop import Training, run
from benchmarks.real.packed import encode, pack
from benchmarks.real.plan import Plan
from benchmarks.real.rows import Picture, Row, is_held_out, split
from benchmarks.real.sentences import as_sentences
from benchmarks.real.stages import Batches, Material, answer_losses, content_words
from benchmarks.real.workers import Team

from tests import tiny_models

DOG = Row("flickr_qa", "colour", "What colour is the dog?", "The dog is brown.")
MAN = Row("flickr_qa", "existence", "Is there a man in the picture?", "There is no man in it.")
CAR = Row("caltech", "object", "What is this?", "The picture shows a car.")
PICTURES = [Picture("a.jpg", (DOG, MAN)), Picture("b.jpg", (CAR,)), Picture("c.jpg", (MAN, CAR))]
ONE = Team(0, 1)


def encoded(pictures: list[Picture]) -> tuple[Any, list[Any], np.ndarray]:
    """The tiny model, the pictures' tokens, and made-up features."""
    loaded = tiny_models.load("internvl")
    features = np.random.default_rng(0).normal(size=(len(pictures), 4, 128)).astype(np.float16)
    tokens = [encode(loaded.processor.tokenizer, p, image_tokens=4) for p in pictures]
    return loaded, tokens, features


def test_questions_that_share_a_picture_are_as_if_asked_alone() -> None:
    loaded, tokens, features = encoded(PICTURES)
    alone = [Picture(p.image, (row,)) for p in PICTURES for row in p.rows]
    number = [k for k, p in enumerate(PICTURES) for _ in p.rows]
    apart = [encode(loaded.processor.tokenizer, p, image_tokens=4) for p in alone]
    with torch.no_grad():
        together, right = answer_losses(loaded.model, pack(tokens), features, "fp32")
        each = [
            answer_losses(loaded.model, pack([one]), features[[k]], "fp32")[0]
            for one, k in zip(apart, number, strict=True)
        ]
    torch.testing.assert_close(together, torch.cat(each), rtol=1e-4, atol=1e-4)
    assert len(right) == sum(int(t.is_target.sum()) for t in tokens)
    assert pack(tokens).row.max() == len(alone) - 1


def test_tokens_are_those_of_the_chat_template() -> None:
    loaded, _, _ = encoded([])
    processor = loaded.processor
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": DOG.question}]},
        {"role": "assistant", "content": DOG.answer},
    ]
    text = processor.apply_chat_template(messages).rstrip("\n")
    text = text.replace("<IMG_CONTEXT>", "<img>" + "<IMG_CONTEXT>" * 4 + "</img>")
    expected = processor.tokenizer.encode(text, add_special_tokens=False)
    found = encode(processor.tokenizer, Picture("a.jpg", (DOG,)), image_tokens=4)
    assert found.ids.tolist() == expected
    assert processor.tokenizer.decode(found.ids[found.is_target]) == f"{DOG.answer}<|im_end|>"


def test_a_pass_has_every_picture_once_and_halves_share_a_step() -> None:
    batches = Batches(10, 4, seed=3)
    stream = np.concatenate([batches.step(s) for s in range(5)])
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert stream[:10].tolist() != stream[10:].tolist()
    both = np.concatenate([batches.half(2, 0), batches.half(2, 1)])
    assert sorted(both) == sorted(batches.step(2))


def quadratic(steps: int, kill_after: int | None = None) -> Training:
    """Minimises the distance to points that differ by step and half."""
    weight = torch.nn.Parameter(torch.zeros(3))

    def half(step: int, which: int) -> float:
        if kill_after is not None and step >= kill_after:
            raise KeyboardInterrupt
        target = torch.tensor([1.0, step % 3, which])
        loss = ((weight - target) ** 2).sum()
        loss.backward()
        return float(loss.detach())

    return Training("quadratic", steps, 0.1, {"weight": weight}, half)


def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = quadratic(20)
    losses = run(whole, tmp_path / "whole.pt", ONE, every=1e9).losses
    with pytest.raises(KeyboardInterrupt):
        run(quadratic(20, kill_after=13), tmp_path / "killed.pt", ONE, every=0.0)
    resumed = quadratic(20)
    assert run(resumed, tmp_path / "killed.pt", ONE).losses == losses
    assert torch.equal(resumed.parameters["weight"], whole.parameters["weight"])
    again = quadratic(20, kill_after=0)  # a finished stage computes nothing
    assert run(again, tmp_path / "killed.pt", ONE).losses == losses
    assert torch.equal(again.parameters["weight"], whole.parameters["weight"])


@dataclass(frozen=True)
class Pair(Team):
    """Two threads instead of two processes."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))
    vectors: dict[int, Any] = field(default_factory=dict)

    def wait(self) -> None:
        self.barrier.wait(60)

    def add(self, vector: Any) -> None:
        self.vectors[self.rank] = vector.clone()
        self.barrier.wait(60)
        vector.copy_(self.vectors[0] + self.vectors[1])
        self.barrier.wait(60)


def test_two_processes_train_the_same_weights_as_one(tmp_path: Path) -> None:
    one, ours, theirs = quadratic(9), quadratic(9), quadratic(9)
    run(one, tmp_path / "one.pt", ONE)
    barrier, vectors = threading.Barrier(2), {}
    second = threading.Thread(
        target=run, args=(theirs, tmp_path / "two.pt", Pair(1, 2, barrier, vectors))
    )
    second.start()
    run(ours, tmp_path / "two.pt", Pair(0, 2, barrier, vectors))
    second.join()
    assert torch.equal(ours.parameters["weight"], one.parameters["weight"])
    assert torch.equal(theirs.parameters["weight"], one.parameters["weight"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_all_stages_train_projector_and_language_model_but_not_the_tower(
    tmp_path: Path, precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # of so few pictures no word is frequent, and the tiny tokenizer cuts words
    monkeypatch.setattr(stages, "vocabulary", lambda *_: {"dog": 10, "brown": 11, "car": 12})
    loaded, tokens, features = encoded(PICTURES * 2)
    model = copy.deepcopy(loaded.model)
    before = {name: p.clone() for name, p in model.named_parameters()}
    plan = Plan(word_steps=2, word_batch=4, batch=4, projector_passes=1, passes=2)
    plan = Plan(**{**vars(plan), "precision": precision, "rate": 1e-2})
    data = Material(PICTURES * 2, tokens, features, np.arange(6))
    tokenizer = loaded.processor.tokenizer
    seconds = stages.train(model, tokenizer, plan, data, tmp_path, ONE, 1e9)
    after = dict(model.named_parameters())
    assert seconds > 0 and after.keys() == before.keys()  # no adapter is left
    changed = {n for n, p in after.items() if not torch.allclose(p.float(), before[n], atol=5e-3)}
    assert not any("vision_tower" in name for name in changed)
    assert any("language_model.layers.0.self_attn.q_proj" in name for name in changed)
    again = copy.deepcopy(loaded.model)
    stages.train(again, tokenizer, plan, data, tmp_path, ONE, 1e9)  # from the checkpoints
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, after[name]), name


def test_the_card_judges_by_exact_answers() -> None:
    loaded, _, features = encoded(PICTURES)
    right, nll = judge(
        loaded.model, loaded.processor.tokenizer, Plan(), PICTURES, features, image_tokens=4
    )
    assert right.shape == nll.shape == (5,) and not right.any() and (nll > 0).all()


def test_chance_knows_the_question_but_not_the_picture() -> None:
    asked = [DOG, Row("flickr_qa", "colour", "What colour is the hat?", "The hat is red.")]
    assert chance(asked, []) == {"colour": 0.5}
    assert chance(asked, asked) == {"colour": 1.0}


def test_control_pictures_are_others_of_the_same_source() -> None:
    same = [Picture(f"{k}.jpg", (DOG,)) for k in range(3)] + [Picture("x.jpg", (CAR,))] * 2
    other = other_pictures(same)
    assert sorted(other) == list(range(5)) and not np.any(other == np.arange(5))
    assert set(other[:3]) == {0, 1, 2}


def test_splits_are_by_picture() -> None:
    pictures = [Picture(f"{k}.jpg", (DOG,)) for k in range(2000)]
    training, held = split(pictures)
    assert len(training) + len(held) == 2000 and 20 < len(held) < 100
    assert all(is_held_out(p.image) for p in held)


def test_words_of_a_no_are_not_said_of_the_picture() -> None:
    assert content_words(PICTURES[0]) == ["dog", "brown"]


@pytest.mark.parametrize(
    ("kind", "question", "answer", "expected"),
    [
        ("object", "What is this? Answer with a word or a short phrase.", "ant", "an ant"),
        ("existence", "Is there water in the picture? Answer yes or no.", "Yes", "is water in"),
        ("number", "How many dogs are in the picture?", "2", "There are 2 dogs in"),
        ("match", 'Does this text describe the picture? "A dog"', "No", "does not describe"),
    ],
)
def test_answers_become_sentences(kind: str, question: str, answer: str, expected: str) -> None:
    asked, answered = as_sentences(kind, question, answer)
    assert "Answer" not in asked and expected in answered


def test_an_unknown_kind_of_question_is_an_error() -> None:
    with pytest.raises(ValueError, match="riddle"):
        as_sentences("riddle", "?", "!")
