"""Properties of a loaded model that several capabilities depend on. Reads configurations only."""

from __future__ import annotations

import inspect
from typing import Any

from thresher.backends.hf.conversation import Conversation, Message
from thresher.backends.hf.encode import EncodedText, Encoder


def stop_tokens(model: Any, encoder: Encoder) -> frozenset[int]:
    """`answer_ends` of a transformers model.

    Arguments:
        model: a transformers model.
        encoder: of the model's conversations.
    """
    return answer_ends(model.generation_config, encoder)


def answer_ends(generation_config: Any, encoder: Encoder) -> frozenset[int]:
    """Ids of the tokens that end an answer: the EOS tokens of the model's generation config and
    tokenizer, and the token that the chat template writes directly after an answer if it is a
    control token (a fine-tuned model may have learned no other).

    Arguments:
        generation_config: of transformers.
        encoder: of the model's conversations.
    """
    tokenizer = encoder.tokenizer
    configured = getattr(generation_config, "eos_token_id", None)
    stop_ids = set(configured if isinstance(configured, (list, tuple)) else [configured])
    stop_ids.add(tokenizer.eos_token_id)
    example = Conversation((Message("user", ("Is it red?",)), Message("assistant", ("Yes",))), ())
    text = encoder.encode([example])[0]
    if isinstance(text, EncodedText):
        following = text.ids[text.answer_positions[-1] + 1 :][:1]
        stop_ids.update(token for token in following if is_control(tokenizer, token))
    return frozenset(token for token in stop_ids if token is not None)


def is_control(tokenizer: Any, token: int) -> bool:
    """Whether a token id is a special token of the tokenizer.

    Arguments:
        tokenizer: of the model.
        token: a token id.
    """
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
