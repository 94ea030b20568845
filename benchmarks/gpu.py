"""Benchmark of the HF backend on a GPU: speed, model FLOP utilisation, waiting for the CPU.

The model is a Qwen2.5-VL with random weights and the published proportions; the rows are JPEG files
of photograph size with a question and an answer of some words. In one run:

- answer_loss, beside a naive loop with the same weights: one row at a time through the model's own
  processor and one full pass. Their losses must agree.
- "MFU": floating-point operations of the passes (matrix products and attention, counted by torch)
  per second, divided by the speed of a large matrix product in the same precision on this device.
- "prepare alone": images are decoded and processed and texts tokenised, and the model does not run;
  "model alone": the same blocks, prepared before. Where neither waits for the other, both together
  take as long as the slower one.
- one_shot (eight demonstrations), and mmSSR's 15 questions in one pass beside 15 passes.

    python -m benchmarks.gpu [--sizes 0.1b,0.5b,2b] [--rows 2048] [--device cuda:0] [--page FILE]

Without a GPU, `--device cpu --sizes 25m --rows 64` tries the script; its numbers mean little.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from thresher.backends.hf.threads import limit_idle_threads

limit_idle_threads()

import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers as tf  # noqa: E402
from benchmarks.judge import QUERIES, more_words, texts  # noqa: E402
from benchmarks.scoring import obvious_losses  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from tests import tiny_models  # noqa: E402
from thresher.backends import resolve  # noqa: E402
from thresher.backends.hf.backend import HFBackend  # noqa: E402
from thresher.backends.hf.conversation import conversation  # noqa: E402
from thresher.pools import Pool, open_pool  # noqa: E402
from thresher.signals.judge import SYSTEM  # noqa: E402
from thresher.signals.query import judge_prompt  # noqa: E402
from thresher.types import Sample, Scored  # noqa: E402

PHOTOGRAPH = (1024, 768)
MOST_IMAGE_TOKENS = 1280
AGREE = {torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.02}  # nats, mean over rows
DEMONSTRATIONS = 8
VOCABULARY = 151_936


@dataclass(frozen=True)
class Shape:
    """A Qwen2.5-VL: its language model and its vision tower."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vision_hidden: int
    vision_layers: int
    vocabulary: int = VOCABULARY


SHAPES = {
    "25m": Shape(512, 8, 8, 2, 1536, 128, 4, vocabulary=8192),
    "0.1b": Shape(512, 12, 8, 2, 1536, 384, 8),
    "0.5b": Shape(896, 24, 14, 2, 4864, 768, 16),
    "2b": Shape(1536, 28, 12, 2, 8960, 1280, 32),
    "7b": Shape(3584, 28, 28, 4, 18944, 1280, 32),
}


@dataclass(frozen=True)
class Measured:
    """One model. Rates are rows per second; `agree` is the mean difference from the loop, nats."""

    size: str
    parameters: int
    dtype: str
    row_tokens: float
    loop: float
    answer_loss: float
    agree: float
    utilisation: float
    prepare_alone: float
    model_alone: float
    one_shot: float
    packed: float
    one_by_one: float
    peak_bytes: int | None


def build(size: str, folder: Path, dtype: torch.dtype) -> None:
    """Write a model with random weights."""
    shape = SHAPES[size]
    half_head = shape.hidden // shape.heads // 2
    sideways = half_head * 3 // 8
    with more_words():
        tokenizer = tiny_models.QWEN_WORDS.byte_level()
        config = tf.Qwen2_5_VLConfig(
            text_config=tiny_models.text_config(
                tokenizer,
                hidden_size=shape.hidden,
                intermediate_size=shape.inner,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                num_key_value_heads=shape.kv_heads,
                head_dim=shape.hidden // shape.heads,
                vocab_size=max(shape.vocabulary, len(tokenizer)),
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 1e6,
                    "mrope_section": [half_head - 2 * sideways, sideways, sideways],
                },
                bos_token_id=0,
            ),
            vision_config={
                "depth": shape.vision_layers,
                "hidden_size": shape.vision_hidden,
                "intermediate_size": 8 * shape.vision_hidden // 3,
                "num_heads": max(shape.vision_hidden // 80, 2),
                "out_hidden_size": shape.hidden,
                "patch_size": 14,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "window_size": 112,
                "fullatt_block_indexes": [
                    k for k in range(shape.vision_layers) if k % 8 == 7 or shape.vision_layers < 8
                ],
            },
            tie_word_embeddings=True,
            dtype=dtype,
            **tiny_models.qwen_ids(tokenizer),
        )
        tiny_models.save_qwen(folder, config, tokenizer, 14, MOST_IMAGE_TOKENS, MOST_IMAGE_TOKENS)


def write_pool(folder: Path, rows: int) -> Path:
    """JPEG files and a LLaVA file; every row has its own image."""
    rng = np.random.default_rng(0)
    words = sorted({w for t in texts() for w in t.split() if w.isalpha() and 2 < len(w) < 10})
    (folder / "images").mkdir(parents=True)
    records = []
    for k in range(rows):
        name = f"{k:06}.jpg"
        tiny_models.picture(*PHOTOGRAPH, seed=k).save(folder / "images" / name, quality=90)
        question, answer = (" ".join(rng.choice(words, n)) for n in (12, 20))
        turns = [("human", f"<image>\n{question}?"), ("gpt", f"{answer}.")]
        conversations = [{"from": who, "value": text} for who, text in turns]
        records.append({"id": str(k), "image": name, "conversations": conversations})
    file = folder / "pool.json"
    file.write_text(json.dumps(records))
    return file


def wait(device: torch.device) -> None:
    """Until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(job: Callable[[], Any], device: torch.device, repeats: int = 2) -> float:
    """The shortest of some runs."""
    best = float("inf")
    for _ in range(repeats):
        wait(device)
        start = time.perf_counter()
        job()
        wait(device)
        best = min(best, time.perf_counter() - start)
    return best


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = seconds_of(lambda: [a @ b for _ in range(10)], device, 5) / 10
    return 2 * side**3 / seconds


def losses(pieces: Iterator[Scored], n: int) -> np.ndarray:
    """float64 [n], nats; fails if a row has none."""
    out = np.full(n, np.nan)
    for piece in pieces:
        assert not any(piece.errors), next(filter(None, piece.errors))
        out[piece.index] = piece.values["nll"]
    return out


def measure(size: str, backend: HFBackend, pool: Pool, samples: Sequence[Sample]) -> Measured:
    device, model = backend.forward.device, backend.forward.model
    n, few = len(samples), samples[: max(len(samples) // 16, 4)]
    losses(backend.answer_loss(few, pool), len(few))  # warm-up
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = backend.forward.tokens
    ours = losses(backend.answer_loss(samples, pool), n)
    tokens = backend.forward.tokens - before
    whole = seconds_of(lambda: losses(backend.answer_loss(samples, pool), n), device)

    talk = [conversation(s) for s in few]
    loop_seconds, loop = obvious_losses(backend, talk, pool, torch.get_num_threads())
    agree = float(np.abs(loop - ours[: len(few)]).mean())
    if agree > AGREE[model.dtype]:
        sys.exit(f"{size}: the loop and thresher disagree by {agree} nats: nothing was measured")

    def prepare() -> list[Any]:
        return list(backend.blocks(samples, conversation, pool, False))

    def run(blocks: list[Any]) -> None:
        for block in blocks:
            for _ in backend.forward.losses(block.rows, backend.features(block)):
                continue

    def run_prepared() -> float:
        blocks = prepare()  # features() frees the images of a block
        wait(device)
        start = time.perf_counter()
        run(blocks)
        wait(device)
        return time.perf_counter() - start

    prepared = prepare()
    with FlopCounterMode(display=False) as counter:
        run(prepared)
    one_pass = counter.get_total_flops()
    demonstrations = [samples[-1 - k % min(DEMONSTRATIONS, n)] for k in range(n)]
    asked = [judge_prompt(s, SYSTEM) for s in few]
    packed = seconds_of(lambda: list(backend.ask(asked, QUERIES, pool)), device)
    single = seconds_of(
        lambda: [list(backend.ask(asked, [query], pool)) for query in QUERIES], device, 1
    )
    return Measured(
        size=size,
        parameters=sum(p.numel() for p in model.parameters()),
        dtype=str(model.dtype).removeprefix("torch."),
        row_tokens=tokens / n,
        loop=len(few) / loop_seconds,
        answer_loss=n / whole,
        agree=agree,
        utilisation=one_pass / whole / matmul_flops(device, model.dtype),
        prepare_alone=n / seconds_of(prepare, device),
        model_alone=n / min(run_prepared() for _ in range(2)),
        one_shot=n
        / seconds_of(lambda: losses(backend.one_shot(samples, demonstrations, pool), n), device),
        packed=len(few) / packed,
        one_by_one=len(few) / single,
        peak_bytes=backend.peak_bytes(),
    )


def page(results: Sequence[Measured], command: str, machine: str) -> str:
    """The table as a page of docs/results."""
    lines = [
        "# The HF backend on a GPU",
        "",
        f"    {command}",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {machine}, torch {torch.__version__}, transformers "
        f"{tf.__version__}. Qwen2.5-VL with random weights; {PHOTOGRAPH[0]} x {PHOTOGRAPH[1]} JPEG "
        "files; rows per second. What the columns mean: `benchmarks/gpu.py`.",
        "",
        "| parameters | dtype | tokens a row | loop | answer_loss | ratio | difference, nats | MFU "
        "| prepare alone | model alone | one_shot | 15 questions | one by one | peak memory |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in results:
        memory = "" if r.peak_bytes is None else f"{r.peak_bytes / 2**30:.1f} GiB"
        lines.append(
            f"| {r.parameters / 1e6:,.0f} M | {r.dtype} | {r.row_tokens:,.0f} | {r.loop:.1f} | "
            f"{r.answer_loss:.1f} | {r.answer_loss / r.loop:.1f}x | {r.agree:.1e} | "
            f"{r.utilisation:.0%} | {r.prepare_alone:.1f} | {r.model_alone:.1f} | "
            f"{r.one_shot:.1f} | {r.packed:.1f} | {r.one_by_one:.1f} | {memory} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sizes", default="0.1b,0.5b,2b", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--rows", type=int, default=2048, help="JPEG files, of one row each")
    parser.add_argument("--device", default="cuda", help="such as cuda:0; cpu: a trial")
    parser.add_argument("--page", type=Path, help="write the table to this file")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    a = parser.parse_args()
    sizes = a.sizes.split(",")
    if unknown := [s for s in sizes if s not in SHAPES]:
        parser.error(f"--sizes: {', '.join(unknown)} is not one of {', '.join(SHAPES)}.")
    if a.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here. To try the script, give cpu.")
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pool = open_pool(write_pool(folder / "pool", a.rows), folder / "pool" / "images", folder)
        samples = pool.samples(list(range(len(pool))))
        for size in sizes:
            gpu = a.device.startswith("cuda")
            build(size, folder / size, torch.bfloat16 if gpu else torch.float32)
            backend = resolve(str(folder / size), device=a.device).open()
            results.append(measure(size, backend, pool, samples))
            print(json.dumps(asdict(results[-1])), flush=True)
            del backend
            if gpu:
                torch.cuda.empty_cache()
    machine = (
        torch.cuda.get_device_name() if a.device.startswith("cuda") else platform.machine() + " CPU"
    )
    text = page(results, "python -m benchmarks.gpu " + " ".join(sys.argv[1:]), machine)
    print(text)
    if a.page:
        a.page.write_text(text, "utf-8")
    if a.json:
        a.json.write_text(json.dumps([asdict(r) for r in results], indent=1))


if __name__ == "__main__":
    main()
