"""Parsing of chat completions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from thresher.backends.openai.completions import first_token_logprobs, read_texts, read_top_logprobs
from thresher.backends.openai.dialect import Dialect
from thresher.backends.openai.failures import NoLogprobs, Refused


def completion(
    top: list[tuple[str, float]], text: str = "", why: str = "stop", **message: Any
) -> dict[str, Any]:
    entries = [{"token": t, "logprob": v} for t, v in top]
    logprobs = {"content": [{**entries[0], "top_logprobs": entries}]} if top else None
    choice = {
        "message": {"role": "assistant", "content": text, **message},
        "logprobs": logprobs,
        "finish_reason": why,
    }
    return {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


def test_answer_token_with_or_without_leading_space() -> None:
    found = read_top_logprobs(
        completion(
            [("5", -0.25), (" 4", -1.0), ("4", -2.0), ("▁3", -3.0), ("Ġ2", -4.0), ("1", -9999.0)]
        )
    )
    got = first_token_logprobs(["0", "1", "2", "3", "4", "5"], found)
    assert got.dtype == np.float32
    assert got.tolist() == [-np.inf, -np.inf, -4.0, -3.0, -2.0, -0.25]


def test_longer_answer_uses_its_longest_prefix_token() -> None:
    found = read_top_logprobs(
        completion([("cons", -1.0), ("c", -2.0), ("consistently", -3.0), ("", -4.0), (" ", -5.0)])
    )
    assert first_token_logprobs(["consistent", "cat", "other"], found).tolist() == [
        -1.0,
        -np.inf,  # "c" begins many words
        -np.inf,
    ]


@pytest.mark.parametrize(
    ("answers", "tokens", "want"),
    [
        (["Yes", "No"], {"N": -1.0, "Y": -2.0, "Yes": -3.0}, [-3.0, -np.inf]),
        (["yes", "no"], {" n": -1.0, "ye": -2.0}, [-np.inf, -np.inf]),
        (["concave", "convex"], {"con": -1.0, "conc": -2.0}, [-2.0, -np.inf]),
        (["concave", "convex"], {"con": -1.0}, [-np.inf, -np.inf]),
        (["12", "7"], {"1": -1.0, "7": -2.0}, [-1.0, -2.0]),
        (["1", "12"], {"1": -1.0}, [-1.0, -np.inf]),
    ],
)
def test_a_token_that_begins_more_than_the_answer_is_not_the_answer(
    answers: list[str], tokens: dict[str, float], want: list[float]
) -> None:
    assert first_token_logprobs(answers, tokens).tolist() == want


def test_tokens_by_their_ids() -> None:
    found = read_top_logprobs(completion([("token_id:17", -0.5), ("token_id:4", -1.0)]))
    assert first_token_logprobs(["Yes", "No"], found, [4, 9]).tolist() == [-1.0, -np.inf]
    # a server that ignores the setting
    assert first_token_logprobs(["Yes", "No"], {"No": -1.0}, [4, 9]).tolist() == [-np.inf, -1.0]


def test_equal_texts_count_once_with_the_higher_probability() -> None:
    assert read_top_logprobs(completion([("Yes", -3.0), ("Yes", -1.0)])) == {"Yes": -1.0}


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {},
        {"content": None},
        {"content": []},
        {"content": [{"token": "5", "logprob": 0.0, "top_logprobs": []}]},
    ],
)
def test_missing_logprobs(logprobs: Any) -> None:
    response = completion([], "5")
    response["choices"][0]["logprobs"] = logprobs
    with pytest.raises(NoLogprobs):
        read_top_logprobs(response)


def test_texts() -> None:
    assert [(w.text, w.tokens, w.finished) for w in read_texts(completion([], " A cat.\n"))] == [
        ("A cat.", 2, True)
    ]
    assert not read_texts(completion([], "A", "length"))[0].finished
    assert (
        read_texts(
            completion([], content=[{"type": "text", "text": "A "}, {"type": "text", "text": "b"}])
        )[0].text
        == "A b"
    )
    assert (
        read_texts({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]})[0].tokens
        == 0
    )
    with pytest.raises(Refused, match="filter"):
        read_texts(completion([], "", "content_filter"))
    with pytest.raises(Refused, match="reasoning"):
        read_texts(completion([], "", "length", reasoning_content="Let me think"))


VLLM = "Requested sample logprobs of 20, which is greater than max allowed: 5"
OPENAI = "Invalid value for 'top_logprobs': must be less than or equal to 8."


@pytest.mark.parametrize(("refusal", "top"), [(VLLM, 5), (OPENAI, 8)])
def test_fewer_top_tokens(refusal: str, top: int) -> None:
    dialect = Dialect()
    sent = dialect.body("m", [], 1, {}, True)
    assert dialect.adapt(sent, Refused(refusal)) and dialect.top == top and len(dialect.notes) == 1
    # another thread sent the same before
    assert dialect.adapt(sent, Refused(refusal)) and len(dialect.notes) == 1
    assert not dialect.adapt(
        dialect.body("m", [], 1, {}, True), Refused("logprobs are not supported with this model")
    )


@pytest.mark.parametrize(
    "refusal",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead.",
        '[{"type": "extra_forbidden", "msg": "Extra inputs are not permitted: max_tokens"}]',
    ],
)
def test_other_name_of_the_length_parameter(refusal: str) -> None:
    dialect = Dialect()
    assert dialect.adapt(dialect.body("m", [], 7, {}, False), Refused(refusal))
    body = dialect.body("m", [], 7, {}, False)
    assert body["max_completion_tokens"] == 7 and "max_tokens" not in body
    # not to and fro
    assert not dialect.adapt(
        body, Refused("max_completion_tokens is not supported, use max_tokens")
    )


@pytest.mark.parametrize(
    "refusal",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens "
        "(4999 in the messages, 1 in the completion). Please reduce the length of the messages or "
        "completion.",
        "'max_tokens' or 'max_completion_tokens' is too large: 5000.",
        "cannot identify image file",
    ],
)
def test_other_refusals_have_no_effect(refusal: str) -> None:
    dialect = Dialect()
    assert not dialect.adapt(dialect.body("m", [], 1, {}, True), Refused(refusal))
    assert dialect == Dialect()
