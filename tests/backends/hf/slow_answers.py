"""Slow reference of what a model says: log-probabilities of given answers and greedy answers, by
the official processor, one row at a time. Like `slow_reference.py`, it shares no code with
`thresher.backends.hf`."""

from __future__ import annotations

from typing import Any

import torch

from tests.backends.hf.random_rows import Images
from tests.backends.hf.slow_reference import messages_of, reference_rows, render
from tests.tiny_models import Loaded
from thresher.types import Query, Sample, Turn


def reference_logprob(tiny: Loaded, row: Sample, query: Query, answer: str) -> float:
    """One full pass over the official processor's prompt and the answer."""
    user = row.turns[-1]
    whole = Sample(row.id, (*row.turns[:-1], Turn("user", user.text + query.text)), row.images)
    messages = messages_of(whole)
    prompt = str(
        tiny.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **_date(tiny)
        )
    )
    texts: list[dict[str, Any]] = [
        {"role": "assistant", "content": [{"type": "text", "text": answer}]}
    ]
    images = [Images().load_image(ref) for ref in row.images]
    if "[{'type'" in prompt or render(tiny.processor, messages + texts).startswith(prompt):
        got = reference_rows(
            tiny.processor, tiny.model, messages + texts, images, first=len(messages)
        )
        ids, position_ids, logprobs = got["input_ids"], got["own_positions"], got["logprobs"]
        if not query.whole:
            return float(logprobs[position_ids[0]])
        last = position_ids[-1] + 1
        control = (
            tiny.processor.tokenizer.added_tokens_decoder.get(ids[last])
            if last < len(ids)
            else None
        )
        ends = query.end and control is not None and control.special
        return float(sum(logprobs[p] for p in position_ids) + (logprobs[last] if ends else 0))
    # the template writes a turn unlike its generation prompt: the answer follows the prompt
    tokenizer = tiny.processor.tokenizer
    inputs = tiny.processor(text=[prompt], images=[images] if images else None, return_tensors="pt")
    inputs = inputs.to(torch.float32)  # Llama 4's are in bfloat16
    end = render(tiny.processor, messages + texts).rsplit(answer, 1)[1]
    more = tokenizer(answer, add_special_tokens=False)["input_ids"]
    counted = more if query.whole else more[:1]
    if query.whole and query.end:
        counted = counted + tokenizer(end, add_special_tokens=False)["input_ids"][:1]
    ids = torch.cat([inputs["input_ids"], torch.tensor([counted])], dim=1)
    with torch.no_grad():
        logp = tiny.model(
            **{**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
        ).logits[0]
    table = logp.double().log_softmax(-1)
    begin = inputs["input_ids"].shape[1]
    return float(sum(table[begin + k - 1, token] for k, token in enumerate(counted)))


def _date(tiny: Loaded) -> dict[str, str]:
    return {"date_string": "26 Jul 2024"} if "date_string" in tiny.processor.chat_template else {}


def question_of(sample: Sample) -> Sample:
    """The turns before the last answer, and their images (the reference shares no code with the
    product)."""
    turns = list(sample.turns)
    while turns[-1].role != "assistant":
        turns.pop()
    turns.pop()
    return Sample("0", tuple(turns), sample.images)


def official_inputs(tiny: Loaded, sample: Sample, image_source: Images) -> Any:
    messages = messages_of(sample)
    # Llama-3.2 takes a system turn as plain text
    if "[{'type'" in render(tiny.processor, messages):
        messages[0]["content"] = messages[0]["content"][0]["text"]
    date = {"date_string": "26 Jul 2024"} if "date_string" in tiny.processor.chat_template else {}
    text = tiny.processor.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **date
    )
    images = [image_source.load_image(ref) for ref in sample.images]
    bos = tiny.processor.tokenizer.bos_token
    special = not (bos and text.startswith(bos))
    return tiny.processor(
        text=[text],
        images=[images] if images else None,
        return_tensors="pt",
        add_special_tokens=special,
    ).to(torch.float32)


@torch.inference_mode()
def official_answer(
    tiny: Loaded, sample: Sample, image_source: Images, stops: list[int], new_tokens: int
) -> tuple[list[int], float]:
    """Greedy tokens without the end token, and the smallest lead of the chosen token over the next
    one."""
    inputs = official_inputs(tiny, sample, image_source)
    out = tiny.model.generate(
        **inputs,
        do_sample=False,
        num_beams=1,
        max_new_tokens=new_tokens,
        eos_token_id=stops,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    new = out.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    lead = min(float((top := step[0].float().topk(2).values)[0] - top[1]) for step in out.logits)
    return [t for t in new if t not in stops], lead
