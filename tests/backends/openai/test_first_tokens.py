"""First tokens of answers by their ids, from a server that shows its tokenizer as vLLM does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.backends.openai.asked_rows import Images, collect
from tests.openai_server import Plan, Real, serving
from tests.tiny_models import NotBuilt, build
from thresher.backends import resolve
from thresher.backends.openai.options import ServerOptions
from thresher.errors import ConfigError
from thresher.signals.query import Query, judge_prompt
from thresher.types import ImageRef, Sample, Turn

NAMES = ["qwen2_5_vl", "llava", "llava_onevision", "smolvlm", "gemma3"]
ROWS = [
    Sample("a", (Turn("user", "Is it red?"), Turn("assistant", "No"))),
    Sample(
        "b",
        (Turn("user", "<image>\nIs it red?"), Turn("assistant", "No")),
        (ImageRef("x", size=1),),
    ),
]


def ask(backend: Any, answers: tuple[str, ...]) -> np.ndarray:
    prompts = [judge_prompt(row, "") for row in ROWS]
    found, errors = collect(backend.ask(prompts, [Query("\nRight?", answers)], Images()), len(ROWS))
    assert errors == [""] * len(ROWS)
    return found["logprob"]


def opened(url: str) -> Any:
    return resolve(f"{url}#m", server=ServerOptions(timeout=60.0, backoff=0.01)).open()


@pytest.mark.parametrize("name", NAMES)
def test_named_answers_have_the_numbers_of_this_process(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model with random weights, whose likely tokens are beginnings of words."""
    try:
        folder = build(name)
    except NotBuilt as e:
        pytest.skip(str(e))
    # SmolVLM's template and tokenizer keep a space apart from some answers that follow it
    more = ("0", "3", "Maybe") if name != "smolvlm" else ()
    answers = ("Yes", "No", "yes", "no", "A", *more)
    real = Real.first
    vocabulary = 100_000

    def first(self: Real, messages: Any, heat: float, as_ids: bool = False) -> Any:
        """All tokens, not only the most likely ones."""
        topk = self.torch.Tensor.topk
        with monkeypatch.context() as every:
            every.setattr(
                self.torch.Tensor, "topk", lambda t, k: topk(t, min(vocabulary, t.numel()))
            )
            return real(self, messages, heat, as_ids)

    want = ask(resolve(str(folder), device="cpu", dtype="float32").open(), answers)
    with serving(Plan(model=str(folder), name="m")) as server:
        some = ask(opened(server.url), answers)
        monkeypatch.setattr(Real, "first", first)
        monkeypatch.setattr("thresher.backends.openai.dialect.MAX_TOP_LOGPROBS", vocabulary)
        server.plan.top = vocabulary
        there = opened(server.url)
        there.client.dialect.top = vocabulary
        every = ask(there, answers)
    np.testing.assert_allclose(every, want, atol=1e-4)
    named = np.isfinite(some)
    np.testing.assert_allclose(some[named], want[named], atol=1e-4)
    assert not named.all()  # random weights: some answers are not among the 20 tokens


def test_answers_that_begin_with_the_same_token() -> None:
    same = pytest.raises(ConfigError, match="'Yes' and 'Yes\\.' begin with the same token")
    with serving(Plan(model="tiny:qwen2_5_vl", name="m")) as server, same:
        ask(opened(server.url), ("Yes", "Yes."))


def test_a_space_that_is_a_token_of_its_own_is_no_answer() -> None:
    with serving(Plan(model="tiny:smolvlm", name="m")) as server:
        there = opened(server.url)
        tokenizer = Real(build("smolvlm")).processor.tokenizer
        digits = tokenizer.convert_tokens_to_ids(["0", "3"])
        yes = tokenizer(" Yes", add_special_tokens=False).input_ids[0]
        assert there._first_tokens.ids(["0", "3", "Yes"]) == [*digits, yes]


def test_the_first_request_is_sent_again_by_ids_and_the_tokenizer_costs_none() -> None:
    with serving(Plan(model="tiny:qwen2_5_vl", name="m")) as server:
        there = opened(server.url)
        ask(there, ("Yes", "No"))
        ask(there, ("No", "Yes"))
        assert len(server.asked) == there.options.account.requests == 5
        by_ids = ["return_tokens_as_token_ids" in body for _, _, body in server.asked]
        assert by_ids == [False, True, True, True, True]


@pytest.mark.parametrize(
    "plan",
    [
        {"tokenize": False},
        {"unknown": "return_tokens_as_token_ids"},
        {"prompt_logprobs": False},  # not vLLM
    ],
)
def test_a_server_without_a_tokenizer_is_asked_by_texts(plan: dict[str, Any]) -> None:
    answers = ("Yes", "No", "yes", "no")
    with serving(Plan(model="demo", name="m")) as server:
        want = ask(opened(server.url), answers)
    with serving(Plan(model="demo", name="m", **plan)) as server:
        got = ask(opened(server.url), answers)
        assert "return_tokens_as_token_ids" not in server.asked[-1][2]
    assert np.isfinite(want).any()
    np.testing.assert_allclose(got, want, atol=1e-4)
