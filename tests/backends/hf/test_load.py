"""The error for a model whose processor writes rows in a way that the fast path does not."""

from __future__ import annotations

import pytest

from tests.tiny_models import load
from thresher.backends.hf.load import _what_differs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        # as PaliGemma's processor: a token before the text and one after it
        (lambda ids, x: [x("<s>"), *ids, x("</s>")], "adds '<s>' and '</s>' to the text"),
        (lambda ids, x: [*ids[:2], x("</s>"), *ids[2:]], "adds '</s>' to the text"),
        (lambda ids, x: [*ids[:2], x("</s>"), *ids[3:]], "changes the text of the chat template"),
        (lambda ids, x: ids[:-1], "changes the text of the chat template"),
    ],
)
def test_what_a_processor_adds_is_named(change, words: str) -> None:
    processor = load("llava").processor
    ids = processor.tokenizer("What is in the picture?", add_special_tokens=False)["input_ids"]
    official = change(ids, processor.tokenizer.convert_tokens_to_ids)
    assert _what_differs(processor, ids, official).startswith(words)
