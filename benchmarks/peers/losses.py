"""Perplexity of answers: Data-Juicer's filter, DataFlex's selector, padded batches."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from benchmarks.peers.comparison import Comparison, Job, Tool

QUESTION, ANSWER = (5, 25), (5, 60)  # fewest and most words
BATCH = 16
TOLERANCE = 1e-3  # nats
# As Data-Juicer joins messages, so that all tools read the same tokens
CHAT = """\
{%- for message in messages -%}
{%- if not loop.first -%}{{- ' ' -}}{%- endif -%}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif 'text' in part -%}
{{- part['text'] -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endfor -%}
"""


def make(folder: Path, rows: int) -> None:
    """A Qwen2.5-VL of 26 M random weights, its language model alone, and rows of text."""
    import shutil

    from transformers import (
        AutoModelForImageTextToText,
        AutoTokenizer,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    from tests.tiny_models import build

    whole = shutil.copytree(build("qwen2_5_vl", size="small"), folder / "model")
    (whole / "chat_template.jinja").write_text(CHAT, encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(whole)
    model = AutoModelForImageTextToText.from_pretrained(whole)
    text = model.config.text_config
    names = (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
        *("num_attention_heads", "num_key_value_heads", "rms_norm_eps", "hidden_act"),
        *("max_position_embeddings", "pad_token_id", "eos_token_id"),
    )
    config = Qwen2Config(
        **{name: getattr(text, name) for name in names},
        bos_token_id=None,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": text.rope_parameters["rope_theta"],
        },
        tie_word_embeddings=True,
    )
    alone = Qwen2ForCausalLM(config)
    alone.model.load_state_dict(model.model.language_model.state_dict())
    alone.tie_weights()
    alone.save_pretrained(folder / "language_model")
    tokenizer.save_pretrained(folder / "language_model")
    settings = folder / "language_model" / "tokenizer_config.json"
    described = json.loads(settings.read_text())
    described.pop(
        "processor_class", None
    )  # that of the whole model, which AutoProcessor would open
    settings.write_text(json.dumps(described))

    rng = random.Random(0)
    words = ["".join(rng.choices("aeinorst", k=rng.randint(2, 6))) for _ in range(500)]
    # Data-Juicer counts an answer's tokens without the space before it
    first = [w for w in words if len(tokenizer(w).input_ids) == len(tokenizer(" " + w).input_ids)]
    with (folder / "pool.jsonl").open("w", encoding="utf-8") as out:
        for row in range(rows):
            question = " ".join(rng.choices(words, k=rng.randint(*QUESTION)))
            answer = " ".join([rng.choice(first), *rng.choices(words, k=rng.randint(*ANSWER))])
            turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
            out.write(json.dumps({"id": row, "conversations": turns}) + "\n")


def _messages(folder: Path) -> list[tuple[str, str]]:
    """(question, answer) of each row."""
    with (folder / "pool.jsonl").open(encoding="utf-8") as lines:
        turns = [json.loads(line)["conversations"] for line in lines]
    return [(question["value"], answer["value"]) for question, answer in turns]


def thresher(folder: Path, scratch: Path) -> Job:
    from dataclasses import replace

    import numpy as np

    from thresher.backends import resolve
    from thresher.engine import RunContext
    from thresher.engine.columns import compute_all
    from thresher.pools import open_pool
    from thresher.request import RunRequest
    from thresher.signals.answer_loss import AnswerLoss
    from thresher.storage.columns import Store

    model = resolve(str(folder / "model"), device="cpu")
    backend = model.open()
    model = replace(model, open=lambda: backend)

    def run() -> list[float]:
        pool = open_pool(folder / "pool.jsonl")
        context = RunContext(Store(scratch / "store"), model)
        signal = AnswerLoss(model.identity)
        (column,) = compute_all({"loss": signal}, pool, RunRequest(), context).values()
        assert column.known.all()
        nll: list[float] = np.asarray(column.values["nll"], float).tolist()
        return nll

    return run


def data_juicer(folder: Path, scratch: Path) -> Job:
    from data_juicer.ops.filter.llm_perplexity_filter import LLMPerplexityFilter
    from data_juicer.utils.constant import Fields, StatsKeys
    from data_juicer.utils.model_utils import get_model

    perplexity = LLMPerplexityFilter(hf_model=str(folder / "language_model"), accelerator="cpu")
    get_model(perplexity.model_key, None, perplexity.use_cuda())  # opens it

    def run() -> list[float]:
        out = []
        for question, answer in _messages(folder):
            sample = {
                "messages": [
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": answer},
                ],
                Fields.stats: {},
            }
            found = perplexity.compute_stats_single(sample)
            out.append(math.log(found[Fields.stats][StatsKeys.llm_perplexity]))
        return out

    return run


def loop(folder: Path, scratch: Path, batch: int = 1) -> Job:
    """DataFlex's `LossSelector`: batches in the pool's order, padded to the longest row, and the
    mean cross-entropy of each row's answer from logits and labels in fp32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder / "language_model").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "language_model")

    def run() -> list[float]:
        rows = []
        for question, answer in _messages(folder):
            ids = tokenizer(f"{question} {answer}").input_ids
            rows.append((ids, len(tokenizer(f" {answer}").input_ids)))
        out: list[float] = []
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            longest = max(len(ids) for ids, _ in some)
            ids = torch.zeros((len(some), longest), dtype=torch.long)
            mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
            for i, (row, answers) in enumerate(some):
                ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
                labels[i, len(row) - answers : len(row)] = torch.tensor(row[-answers:])
            with torch.inference_mode():
                logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            loss = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), labels[:, 1:], ignore_index=-100, reduction="none"
            )
            out += (loss.sum(1) / (labels[:, 1:] != -100).sum(1)).tolist()
        return out

    return run


def batches(folder: Path, scratch: Path) -> Job:
    return loop(folder, scratch, BATCH)


def judge(folder: Path, ours: Any, theirs: Any) -> tuple[str, bool]:
    worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    text = f"{len(theirs):,} losses"
    if ours is not theirs:
        text += f", largest difference {worst:.1e} nats"
    return text, worst <= TOLERANCE


COMPARISON = Comparison(
    title="Perplexity of answers",
    job="The mean loss of each row's answer under a Qwen2.5-VL of 26 M random weights, in fp32; "
    f"questions of {QUESTION[0]} to {QUESTION[1]} random words, answers of {ANSWER[0]} to "
    f"{ANSWER[1]}, no images; models are opened beforehand. thresher: the signal of `perplexity`, "
    "with an empty store. Data-Juicer: `LLMPerplexityFilter`, which takes text only and no chat "
    "template; it runs the language model alone, and the template that thresher uses joins "
    "messages as it does. DataFlex 1.1.0 is not installed: it requires torchaudio 2.6 or older and "
    "with it a torch 2.6 for CUDA, and scores rows only inside a training of LLaMA-Factory. The "
    "loop of its `LossSelector` is written from its source.",
    rows=60,
    few=2,
    make=make,
    thresher=Tool("thresher", thresher),
    peers=(
        Tool(
            "Data-Juicer",
            data_juicer,
            "py-data-juicer",
            "data_juicer",
            why="as fast, because these rows have nothing in common that could be computed once: "
            "every tool does the same multiplications for each of them, and on a single core "
            "they take nearly all of the time. For rows with images see [scoring](scoring.md).",
        ),
        Tool(
            "DataFlex's loss selector, from its source",
            loop,
            why="needs less memory, because it opens the language model alone. thresher opens the "
            "whole model with its image processor, and compares it with an ordinary pass first.",
        ),
        Tool(f"the same in batches of {BATCH}", batches),
    ),
    judge=judge,
)
