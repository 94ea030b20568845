"""Facts about a loaded model that several kinds of questions depend on. Reads configs only."""

from __future__ import annotations

import inspect
from typing import Any

from thresher.backends.hf.conversation import Conversation, Message
from thresher.backends.hf.encode import Encoder, Text


def stop_tokens(model: Any, encoder: Encoder) -> frozenset[int]:
    """What ends an answer: the end tokens of the model's generation config and tokenizer, and the
    token that the chat template writes right behind an answer if that is a control token (a tuned
    model may know no other end)."""
    tokenizer = encoder.tokenizer
    given = getattr(model.generation_config, "eos_token_id", None)
    stops = set(given if isinstance(given, (list, tuple)) else [given])
    stops.add(tokenizer.eos_token_id)
    plain = Conversation((Message("user", ("Is it red?",)), Message("assistant", ("Yes",))), ())
    text = encoder.encode([plain])[0]
    if isinstance(text, Text):
        stops.update(
            token for token in text.ids[text.answers[-1] + 1 :][:1] if is_control(tokenizer, token)
        )
    return frozenset(token for token in stops if token is not None)


def is_control(tokenizer: Any, token: int) -> bool:
    added = tokenizer.added_tokens_decoder.get(token)
    return added is not None and bool(added.special)


def skips_padding(config: Any) -> bool:
    """Whether every layer attends to all earlier tokens, so that masked padding in the cache
    changes nothing."""
    text = config.get_text_config(decoder=True)
    kinds = getattr(text, "layer_types", None)
    if kinds:
        return set(kinds) <= {"full_attention", "attention"}
    return not getattr(text, "sliding_window", None) or not getattr(
        text, "use_sliding_window", True
    )


def cache_argument(model: Any) -> str:
    """Name of the argument of `model.forward` that takes a cache: `cache` since transformers 5.24,
    `past_key_values` before, and in code that a model brings with it."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    named = inspect.signature(inner.forward).parameters
    return "cache" if "cache" in named else "past_key_values"
