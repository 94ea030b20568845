"""Many queries about a row in one pass, compared with one full pass per query, for every
architecture."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.backends.hf.opened_backends import borrowed, opened
from tests.backends.hf.random_rows import Images, ask, collect, some_rows
from tests.backends.hf.slow_answers import reference_logprob
from tests.model_families import families, kinds
from tests.tiny_models import ARCHITECTURES, BOTH_WAYS, Loaded, build, load
from thresher.backends import resolve
from thresher.backends.fake import IDENTITY
from thresher.backends.hf import ask as ask_module
from thresher.backends.hf.ask_encode import AskEncoder
from thresher.backends.hf.backend import HFBackend
from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.traits import stop_tokens
from thresher.errors import ConfigError, ModelError
from thresher.signals.capabilities import CAPABILITIES, STYLES
from thresher.signals.judge import SYSTEM, Judge
from thresher.signals.query import Query, judge_prompt
from thresher.signals.style import Style
from thresher.types import Sample, Turn

each_kind = kinds("model", (*ARCHITECTURES, BOTH_WAYS))
FEW = (
    Query("\nHow good is it, 0 to 5?", ("0", "3", "5")),
    Query("\nHow hard is it, 0 to 5?", ("1", "5")),
    Query("\nWhich style?", ("short description", "yes/no", "A. B"), whole=True, end=False),
    Query(" So?", ("Yes.", "No"), whole=True),
)
MMSSR = (*(Judge(IDENTITY, c).query() for c in CAPABILITIES), Style(IDENTITY, STYLES[0]).query())
WIDTH = sum(len(q.answers) for q in FEW)


@pytest.fixture(scope="module", params=families((*ARCHITECTURES, BOTH_WAYS)))
def model(request: pytest.FixtureRequest) -> Loaded:
    torch.set_num_threads(1)
    return load(request.param)


@pytest.fixture(scope="module")
def judge(model: Loaded) -> HFBackend:
    """Shared between tests: what they change, they change back."""
    return opened(model.name)


@pytest.fixture
def qwen() -> Iterator[HFBackend]:
    with borrowed("qwen2_5_vl") as backend:
        yield backend


def judged(n: int, seed: int) -> list[Sample]:
    return [judge_prompt(row, SYSTEM if i % 3 else "") for i, row in enumerate(some_rows(n, seed))]


def logprobs(backend: HFBackend, rows: list[Sample], queries: tuple[Query, ...]) -> np.ndarray:
    width = sum(len(q.answers) for q in queries)
    out = np.full((len(rows), width), np.nan, np.float32)
    for piece in backend.ask(rows, queries, Images()):
        assert not any(piece.errors), piece.errors
        assert np.isnan(out[piece.index]).all()
        out[piece.index] = piece.values["logprob"]
    return out


# ------------------------------------------------------------------------------ against full passes


def test_packed_pass_equals_full_pass_per_answer(model: Loaded, judge: HFBackend) -> None:
    assert judge.query_mode == "packed"
    rows = [
        judge_prompt(ask("Which is red?", "The second.", "1", "2"), SYSTEM),
        judge_prompt(some_rows(9, 3)[5], SYSTEM),
        judge_prompt(ask("What is two and two?", "Four.\n"), ""),
    ]
    got = logprobs(judge, rows, FEW)
    every = [(q, a) for q in FEW for a in q.answers]
    for i, row in enumerate(rows):
        some = range(i, len(every), 3) if i else range(len(every))
        want = [reference_logprob(model, row, *every[k]) for k in some]
        np.testing.assert_allclose(got[i, list(some)], want, atol=1e-4, rtol=0)
    assert got.std() > 0.3


def test_mmssr_questions_match_full_passes(model: Loaded, judge: HFBackend) -> None:
    row = judge_prompt(ask("What colour is the small cat?", "Red, I think.", "3"), SYSTEM)
    got = logprobs(judge, [row], MMSSR)[0]
    for k in (0, 4, 9, 13):
        want = reference_logprob(model, row, MMSSR[k], MMSSR[k].answers[k % 6])
        assert got[6 * k + k % 6] == pytest.approx(want, abs=1e-4)
    for k in (1, 3, 7):
        want = reference_logprob(model, row, MMSSR[-1], STYLES[k])
        assert got[6 * len(CAPABILITIES) + k] == pytest.approx(want, abs=1e-4)


def test_three_implementations_agree(judge: HFBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = judged(8, seed=5)
    packed = logprobs(judge, rows, FEW)
    for way in ("full", "batched") if judge.reuses_prefix else ("full",):
        monkeypatch.setattr(judge.forward, "query_mode", way)
        np.testing.assert_allclose(logprobs(judge, rows, FEW), packed, atol=1e-4, rtol=0)


@each_kind
def test_row_does_not_depend_on_its_batch(
    judge: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = judged(10, seed=6)
    together = logprobs(judge, rows, FEW)
    monkeypatch.setattr(judge.forward, "batch_tokens", 300)
    np.testing.assert_array_equal(logprobs(judge, rows, FEW), together)
    np.testing.assert_array_equal(
        np.vstack([logprobs(judge, [row], FEW) for row in rows[::-1]])[::-1], together
    )


def test_query_alone_equals_query_in_a_batch(qwen: HFBackend) -> None:
    rows = judged(6, seed=7)
    together = logprobs(qwen, rows, FEW)
    at = 0
    for query in FEW:
        alone = logprobs(qwen, rows, (query,))
        np.testing.assert_allclose(
            alone, together[:, at : at + len(query.answers)], atol=1e-5, rtol=0
        )
        at += len(query.answers)


@pytest.mark.parametrize(
    "layers", [["sliding_attention", "full_attention"], ["sliding_attention"] * 2]
)
def test_sliding_window_follows_the_prompt_path(tmp_path: Path, layers: list[str]) -> None:
    """With a window shorter than the prompt, the window of a query follows its own prompt, not the
    packed sequence."""
    folder = shutil.copytree(build(BOTH_WAYS), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"sliding_window": 12, "layer_types": layers}
    (folder / "config.json").write_text(json.dumps(config))
    backend = resolve(str(folder)).open()
    assert backend.query_mode == "packed"
    rows = judged(5, seed=8)
    packed = logprobs(backend, rows, FEW)
    wide = logprobs(opened(BOTH_WAYS), rows, FEW)
    assert np.abs(packed - wide).max() > 1e-2, "the window does something"
    tiny = Loaded(BOTH_WAYS, folder, load(BOTH_WAYS).processor, backend.forward.model)
    want = [reference_logprob(tiny, rows[1], q, a) for q in FEW for a in q.answers]
    np.testing.assert_allclose(packed[1], want, atol=1e-4, rtol=0)


# -------------------------------------------------------------------------- where packing cannot be


def test_unpackable_queries_use_a_prefix_or_full_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_mask(*_: Any) -> Any:
        raise ValueError("layers of kinds ['recurrent'] take no mask")

    rows = judged(8, seed=9)
    want = {name: logprobs(opened(name), rows, FEW) for name in ("qwen2_5_vl", "mllama")}
    monkeypatch.setattr(ask_module, "additive_mask", no_mask)
    for name, way in (("qwen2_5_vl", "batched"), ("mllama", "full")):
        backend = resolve(str(build(name))).open()
        assert backend.query_mode == way
        np.testing.assert_allclose(logprobs(backend, rows, FEW), want[name], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "mllama"])
def test_very_long_row_is_not_packed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opened(name)
    rows = judged(8, seed=12)
    want = logprobs(backend, rows, FEW)
    monkeypatch.setattr(ask_module, "MAX_PACKED_TOKENS", 130)
    packed: list[int] = []
    real = ask_module.position_ids
    monkeypatch.setattr(
        ask_module, "position_ids", lambda t, tree, w: packed.append(w) or real(t, tree, w)
    )
    np.testing.assert_allclose(logprobs(backend, rows, FEW), want, atol=1e-4, rtol=0)
    assert 0 < len(packed) < len(rows) and max(packed) <= 130


def test_wrong_mask_is_detected_on_opening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = ask_module.attention_mask

    def all_see_all(trunk: int, tree: Any, width: int, together: Any = None) -> np.ndarray:
        out = real(trunk, tree, width, together)
        out[trunk:, trunk:] = True
        return out

    monkeypatch.setattr(ask_module, "attention_mask", all_see_all)
    assert resolve(str(build("llava"))).open().query_mode == "batched"


def test_out_of_memory_halves_the_batch_of_questions(
    qwen: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [judge_prompt(ask("What is it?", f"Answer {i}."), SYSTEM) for i in range(6)]
    want, real, sizes = logprobs(qwen, rows, FEW), ask_module._target_logprobs, []

    def small_memory(forward: Any, some: list[Any], features: Any, packed: bool) -> Any:
        sizes.append(len(some))
        if len(some) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(forward, some, features, packed)

    monkeypatch.setattr(ask_module, "_target_logprobs", small_memory)
    np.testing.assert_array_equal(logprobs(qwen, rows, FEW), want)
    assert max(sizes) > 2


# ------------------------------------------------------------------------------ tokens and failures

ENDS = (
    "",
    " ",
    "\n",
    "\n\n",
    ".\n",
    " \n ",
    "On",
    "\nO",
    "12",
    "1",
    "\u0308",
    "日",
    "🙂",
    "e",
    "?",
    "…",
    "\t",
    "▁",
    "I",
    "<image",
)


def test_cached_tokens_equal_those_of_whole_prompts(model: Loaded, judge: HFBackend) -> None:
    """Bodies that end in anything: what is taken over from the first row must be what the tokenizer
    gives."""
    rows = [
        Sample("0", (Turn("system", SYSTEM), Turn("user", f"Question: How? Answer: It is so{end}")))
        for end in ENDS
    ]
    conversations = [conversation(row) for row in rows]
    stops = stop_tokens(judge.forward.model, judge.encoder)
    queries = (*MMSSR[:2], MMSSR[-1])  # two of one group, and another one
    encoder = AskEncoder(judge.encoder, judge.prompt_encoder, queries, stops)
    quick = encoder.encode(conversations)
    assert all(p.groups is not None and len(p.groups) == 2 for p in encoder._plans.values())
    for plan in encoder._plans.values():
        plan.groups = None
    slow = encoder.encode(conversations)
    for end, a, b in zip(ENDS, quick, slow, strict=True):
        assert not isinstance(a, str) and not isinstance(b, str), (end, a, b)
        assert a.trie is not None and b.trie is not None
        assert _prompts(a) == _prompts(b), repr(end)


def _prompts(text: Any) -> list[tuple[list[int], int]]:
    """The whole prompt and the wanted token, for each wanted one."""
    out = []
    for where, token in zip(text.trie.source.tolist(), text.trie.target.tolist(), strict=True):
        path = np.flatnonzero(text.trie.attends[where]) if where >= 0 else np.zeros(0, np.int64)
        cut = len(text.ids) + where + 1 if where < 0 else len(text.ids)
        out.append((text.ids[:cut] + text.trie.ids[path].tolist(), token))
    return out


def test_row_tokenises_one_prompt_per_group(
    qwen: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops = stop_tokens(qwen.forward.model, qwen.encoder)
    encoder = AskEncoder(qwen.encoder, qwen.prompt_encoder, MMSSR, stops)
    conversations = [
        conversation(judge_prompt(ask(f"What is {i}?", "A cat."), SYSTEM)) for i in range(40)
    ]
    encoder.encode(conversations[:4])
    real, counted = encoder._tokenize, []
    monkeypatch.setattr(encoder, "_tokenize", lambda s, o: counted.append(len(s)) or real(s, o))
    encoder.encode(conversations[4:])
    assert sum(counted) == 2 * 36


def test_whole_prompts_are_tokenised_if_cached_tokens_do_not_fit(qwen: HFBackend) -> None:
    stops = stop_tokens(qwen.forward.model, qwen.encoder)
    encoder = AskEncoder(qwen.encoder, qwen.prompt_encoder, MMSSR, stops)
    conv = conversation(judge_prompt(ask("What is it?", "A cat."), SYSTEM))
    (want,) = encoder.encode([conv])
    for plan in encoder._plans.values():
        assert plan.groups is not None
        plan.checks_left, plan.groups[1].known_suffix[0] = 0, -1
        plan.groups[1].tails[0] = plan.groups[1].tails[1]
    (got,) = encoder.encode([conv])
    assert _prompts(got) == _prompts(want)


def test_answers_with_one_first_token_are_refused(qwen: HFBackend) -> None:
    rows = judged(3, seed=10)
    with pytest.raises(ConfigError, match="'1' and '10' begin with the same token"):
        logprobs(qwen, rows, (Query("\nHow many?", ("1", "2", "10")),))
    logprobs(qwen, rows, (Query("\nHow many?", ("1", "2", "10"), whole=True),))


@each_kind
def test_invalid_row_fails_alone(judge: HFBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "context", 4096)
    control = judge.encoder.tokenizer.eos_token
    rows = [
        judge_prompt(ask("What?", "A cat.", "1"), SYSTEM),
        judge_prompt(ask("What?", "A cat.", "broken"), SYSTEM),
        judge_prompt(ask("word " * 5000, "Yes."), SYSTEM),
        judge_prompt(ask(f"What? {control}", "Yes."), SYSTEM),
        Sample("0", (Turn("user", "<image>\nQuestion: What? Answer: No."),), ()),
    ]
    values, errors = {}, {}
    for piece in judge.ask(rows, FEW, Images()):
        errors |= {int(i): e for i, e in zip(piece.index, piece.errors, strict=True) if e}
        values |= {int(i): v for i, v in zip(piece.index, piece.values["logprob"], strict=True)}
    assert sorted(errors) == [1, 2, 3, 4] and sorted(values) == list(range(5))
    assert (
        "truncated" in errors[1]
        and errors[2].startswith("too long:")
        and control in errors[3]
        and "images" in errors[4]
    )
    np.testing.assert_array_equal(values[0], logprobs(judge, rows[:1], FEW)[0])


def test_longest_prompt_must_fit_not_the_pack(qwen: HFBackend) -> None:
    row = judge_prompt(ask("What is it?", "A cat.", "1"), SYSTEM)
    stops = stop_tokens(qwen.forward.model, qwen.encoder)
    encoder = AskEncoder(qwen.encoder, qwen.prompt_encoder, MMSSR, stops)
    packed = qwen.prepare([conversation(row)], range(1), Images(), False, encoder).rows[0]
    qwen.context = packed.longest_prompt
    assert len(packed.packed_ids) > qwen.context
    logprobs(qwen, [row], MMSSR)
    qwen.context -= 1
    (piece,) = qwen.ask([row], MMSSR, Images())
    assert piece.errors[0].startswith("too long:")


@each_kind
def test_judge_signal_with_the_backend(judge: HFBackend) -> None:
    """The signals' values from a real pass are in range and match `ask`."""
    samples = some_rows(5, seed=11)
    signals = [
        *(Judge(IDENTITY, c) for c in CAPABILITIES[:3]),
        *(Style(IDENTITY, s) for s in STYLES),
    ]
    for pieces in Judge.batch_rows(signals, samples, None, judge, Images()):
        assert len(pieces) == len(signals) and not any(e for p in pieces for e in p.errors)
        for piece in pieces[:3]:
            assert (piece.values["mass"] > 0).all() and (piece.values["mass"] < 1).all()
            assert (piece.values["score"] > 0).all() and (piece.values["score"] < 5).all()
        assert np.any([p.values["chosen"] for p in pieces[3:]], axis=0).all()
    alone, errors = collect(signals[1].rows(samples, None, judge, Images()), 5)
    assert not errors and alone["best"].dtype == np.int32


def test_text_only_model_is_refused() -> None:
    with pytest.raises(ModelError):
        resolve(str(build("text_only"))).open()
