"""Slow reference implementation of scoring one row: official processor, one row, one full pass.

Shares no code with `thresher.backends.hf`. The position of an answer is found without markers and
without the tokenizer's offsets: the conversation is rendered again with a snowman before and after
each answer, and the first character that changes is the boundary. The tokens of an answer are found
by decoding every token to bytes and counting; each call checks that the bytes add up to the
rendered text.

A token that straddles an answer's boundary is an answer token (LLaVA's "▁T" in
"ASSISTANT: Teal."); the template's own tokens and the end-of-turn token are not, except for what it
writes between its generation prompt and the answer: the model has to generate that too
("ASSISTANT: 12" is "▁", "12").
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from tokenizers.decoders import ByteLevel
from tokenizers.pre_tokenizers import ByteLevel as ByteLevelPieces

from thresher.types import ImageRef, Sample

Messages = list[dict[str, Any]]
# Llama-3.2-Vision adds the date to conversations without images, which would change scores
DATE = "26 Jul 2024"
_SNOWMAN = "☃"


# ----------------------------------------------------------------------------------------- messages


def messages_of(sample: Sample) -> Messages:
    """A sample's turns in the form chat templates take: images and texts in order, as the user
    placed them.

    One newline directly before or after a placeholder only separates it from the text, and is
    dropped.
    """
    messages: Messages = []
    for turn in sample.turns:
        content: list[dict[str, Any]] = []
        for i, text in enumerate(re.split(r"\n?<image>\n?", turn.text)):
            if i > 0:
                content.append({"type": "image"})
            if text:
                content.append({"type": "text", "text": text})
        messages.append({"role": turn.role, "content": content or [{"type": "text", "text": ""}]})
    return messages


def images_of(sample: Sample, load_image: Callable[[ImageRef], Image.Image]) -> list[Image.Image]:
    return [load_image(ref) for ref in sample.images]


def one_conversation(demonstration: Messages, query: Messages) -> Messages:
    """The query's turns after the demonstration's. One system turn, in front: the query's, else the
    demonstration's."""
    system = [m for m in query if m["role"] == "system"] or [
        m for m in demonstration if m["role"] == "system"
    ]
    return system + [m for m in demonstration + query if m["role"] != "system"]


def render(processor: Any, messages: Messages) -> str:
    """The conversation rendered by the chat template, with one placeholder per image."""
    return str(
        processor.apply_chat_template(messages, tokenize=False, **_template_settings(processor))
    )


def _template_settings(processor: Any) -> dict[str, str]:
    # A setting that the template does not name would be handed to the image processor instead.
    return {"date_string": DATE} if "date_string" in processor.chat_template else {}


def _for_template(processor: Any, messages: Messages) -> Messages:
    """Messages for the template; Llama-3.2 gets its system turn as plain text, because its template
    prints a list as Python would."""
    if messages[0]["role"] != "system" or "[{'type'" not in render(processor, messages):
        return messages
    text = "".join(part["text"] for part in messages[0]["content"])
    return [{"role": "system", "content": text}, *messages[1:]]


# ------------------------------------------------------------------------------------------ answers


def _answers(messages: Messages, first: int) -> list[tuple[int, int]]:
    """(message, part) of every assistant text from message `first` on."""
    return [
        (m, p)
        for m, message in enumerate(messages)
        if message["role"] == "assistant" and m >= first
        for p, part in enumerate(message["content"])
        if part["type"] == "text"
    ]


def _with_text(messages: Messages, where: tuple[int, int], text: str) -> Messages:
    m, p = where
    content = list(messages[m]["content"])
    content[p] = {"type": "text", "text": text}
    return [*messages[:m], {**messages[m], "content": content}, *messages[m + 1 :]]


def _first_difference(a: str, b: str) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def answer_spans(processor: Any, messages: Messages, first: int = 0) -> list[tuple[int, int]]:
    """Start and end of every answer, in characters of the rendered text."""
    rendered = render(processor, messages)
    assert _SNOWMAN not in rendered
    spans = []
    for where in _answers(messages, first):
        text = messages[where[0]]["content"][where[1]]["text"]
        start = _first_difference(
            rendered, render(processor, _with_text(messages, where, _SNOWMAN + text))
        )
        end = _first_difference(
            rendered, render(processor, _with_text(messages, where, text + _SNOWMAN))
        )
        assert rendered[start:end] in (text, text.strip()), (text, rendered[start:end])
        spans.append((start, end))
    return spans


def generation_prompt_ends(processor: Any, messages: Messages, first: int = 0) -> list[int]:
    """For every answer, the character at which the template's invitation to give it ends; the
    answer's own start where a finished turn is written otherwise."""
    rendered = render(processor, messages)
    ends = []
    for (m, p), (start, _) in zip(
        _answers(messages, first), answer_spans(processor, messages, first), strict=True
    ):
        prompt = "\0"
        if p == 0 and m > 0:
            settings = _template_settings(processor)
            prompt = str(
                processor.apply_chat_template(
                    messages[:m], tokenize=False, add_generation_prompt=True, **settings
                )
            )
        ends.append(len(prompt) if rendered[:start].startswith(prompt) else start)
    return ends


def _expanded(
    rendered: str, spans: list[tuple[int, int]], replaced: list[dict[str, Any]]
) -> list[tuple[str, bool]]:
    """The text that is tokenized, in pieces: (text, is it an answer). Each image is its own
    tokens."""
    pieces: list[tuple[str, bool]] = []

    def template(start: int, end: int) -> None:
        at = start
        for r in replaced:
            a, b = r["span"]
            if start <= a and b <= end:
                pieces.append((rendered[at:a] + r["replacement"], False))
                at = b
        pieces.append((rendered[at:end], False))

    at = 0
    for start, end in spans:
        template(at, start)
        pieces.append((rendered[start:end], True))
        at = end
    template(at, len(rendered))
    return pieces


@functools.cache
def token_bytes(tokenizer: Any, token_id: int) -> bytes:
    """The UTF-8 bytes of one token: byte-level (GPT-2 style) or SentencePiece style (with `▁` and
    `<0x0A>`)."""
    added = tokenizer.added_tokens_decoder.get(token_id)
    if added is not None:
        return str(added.content).encode()
    token: str = tokenizer.convert_ids_to_tokens(token_id)
    if isinstance(tokenizer.backend_tokenizer.decoder, ByteLevel):
        return bytes(_byte_of_letter()[letter] for letter in token)
    if re.fullmatch(r"<0x[0-9A-F]{2}>", token):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()


@functools.cache
def _byte_of_letter() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the others follow from U+0100
    on, in order."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    rest = [b for b in range(256) if b not in printable]
    table = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(rest)}
    assert sorted(table) == sorted(ByteLevelPieces.alphabet())
    return table


def answer_positions(
    tokenizer: Any, ids: Sequence[int], pieces: list[tuple[str, bool]]
) -> list[int]:
    """Positions of the tokens that contain at least one byte of an answer."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    written = b""
    is_answer: list[bool] = []  # for each byte
    for text, answer in pieces:
        spelled = (normalizer.normalize_str(text) if normalizer else text).encode()
        written += spelled
        is_answer += [answer] * len(spelled)
    spelled_tokens = [token_bytes(tokenizer, i) for i in ids]
    whole = b"".join(spelled_tokens)
    # Before the text, a tokenizer may put its begin token and Llama 2's extra space.
    front = len(whole) - len(written)
    begin = (tokenizer.bos_token or "").encode()
    assert whole[front:] == written and whole[:front] in (b"", b" ", begin, begin + b" "), (
        whole,
        written,
    )
    positions, at = [], -front
    for position, spelled in enumerate(spelled_tokens):
        if any(is_answer[max(at, 0) : max(at + len(spelled), 0)]):
            positions.append(position)
        at += len(spelled)
    return positions


# ------------------------------------------------------------------------------------------- scores


def reference_encoding(
    processor: Any, messages: Messages, images: Sequence[Image.Image], *, first: int = 0
) -> dict[str, Any]:
    """Encode one conversation. Only assistant texts from message `first` on count as answers.

    - `input_ids`: list of int, as the official processor gives them; `inputs`: all it gives, as
      tensors of one row
    - `answer_positions`: list of int, ascending, from the end of the generation prompt on;
      `own_positions`: those with a byte of the answer's own text
    - `answer_texts`: what each answer's own tokens were found from; `pieces`: the text that was
      tokenized, (text, is it an answer)
    """
    waiting = iter(images)
    filled = [
        {
            **m,
            "content": [
                {"type": "image", "image": next(waiting)} if p["type"] == "image" else p
                for p in m["content"]
            ],
        }
        for m in messages
    ]
    assert next(waiting, None) is None, "more images than placeholders"
    filled, messages = _for_template(processor, filled), _for_template(processor, messages)

    def official(**more: Any) -> Any:
        return processor.apply_chat_template(
            filled, tokenize=True, return_dict=True, **_template_settings(processor), **more
        )

    inputs = official(return_tensors="pt").to(torch.float32)  # Llama 4's are in bfloat16
    # as tensors, too: Ovis2's processor takes no other sizes of images
    noted = official(
        return_tensors="pt", processor_kwargs={"return_text_replacement_offsets": True}
    )
    ids: list[int] = inputs["input_ids"][0].tolist()
    assert _row(noted["input_ids"]) == ids

    rendered = render(processor, messages)
    spans = answer_spans(processor, messages, first)
    # Llama-3.2-Vision has no such notes: its images stay one token each.
    replaced = (
        noted["text_replacement_offsets"][0]
        if images and "text_replacement_offsets" in noted
        else []
    )
    pieces = _expanded(rendered, spans, replaced)
    own = answer_positions(processor.tokenizer, ids, pieces)
    begins = generation_prompt_ends(processor, messages, first)
    whole = [(begin, end) for begin, (_, end) in zip(begins, spans, strict=True)]
    with_separators = _expanded(rendered, whole, replaced)
    positions = answer_positions(processor.tokenizer, ids, with_separators)
    return {
        "inputs": inputs,
        "input_ids": ids,
        "answer_positions": positions,
        "pieces": pieces,
        "own_positions": own,
        "answer_texts": [rendered[a:b] for a, b in spans],
    }


def reference_rows(
    processor: Any, model: Any, messages: Messages, images: Sequence[Image.Image], *, first: int = 0
) -> dict[str, Any]:
    """Score one conversation: what `reference_encoding` gives, and

    - `logprobs`: float list [len(input_ids)], nats; NaN where there is nothing to predict (the
      first token)
    - `argmax`: int list [len(input_ids)], the token that the model would have put there; -1 for the
      first
    - `nll`: mean of -logprobs over answer tokens, nats (NaN without any); `tokens`: how many
    - `greedy_match`: whether every answer token is its argmax (False without any)
    """
    encoded = reference_encoding(processor, messages, images, first=first)
    inputs, ids, positions = (encoded[k] for k in ("inputs", "input_ids", "answer_positions"))
    inputs = inputs.to(model.device)
    with torch.no_grad():
        logits = model(**_as_dtype(inputs, model.dtype)).logits[0].float()
    table = torch.log_softmax(logits, dim=-1).double()
    logprobs, argmax = [math.nan], [-1]
    for position in range(1, len(ids)):
        # Llama-3.2-Vision's image token cannot be predicted
        predictable = ids[position] < table.shape[1]
        logprobs.append(float(table[position - 1, ids[position]]) if predictable else math.nan)
        argmax.append(int(table[position - 1].argmax()))
    return {
        **encoded,
        "inputs": inputs,
        "logprobs": logprobs,
        "argmax": argmax,
        "nll": -sum(logprobs[p] for p in positions) / len(positions) if positions else math.nan,
        "tokens": len(positions),
        "greedy_match": bool(positions) and all(argmax[p] == ids[p] for p in positions),
    }


def reference_one_shot(
    processor: Any,
    model: Any,
    demonstration: Messages,
    demonstration_images: Sequence[Image.Image],
    query: Messages,
    query_images: Sequence[Image.Image],
) -> dict[str, Any]:
    """Score the query's answers after a demonstration, both in one conversation; the
    demonstration's never count."""
    whole = one_conversation(demonstration, query)
    asked = sum(m["role"] != "system" for m in query)
    images = [*demonstration_images, *query_images]
    return reference_rows(processor, model, whole, images, first=len(whole) - asked)


def _row(ids: Any) -> list[int]:
    """One row of ids, whether the processor gave a list or a list of one list."""
    row = ids[0] if hasattr(ids[0], "__len__") else ids
    return [int(i) for i in row]


def _as_dtype(inputs: Any, dtype: torch.dtype) -> dict[str, Any]:
    return {
        k: v.to(dtype) if torch.is_tensor(v) and v.is_floating_point() else v
        for k, v in inputs.items()
    }
