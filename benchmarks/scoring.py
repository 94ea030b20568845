"""Benchmark of `answer_loss` and `one_shot` in rows per second, against a naive loop with the same
model, rows and cores.

The naive loop sends one row at a time through the model's own processor and one full forward pass,
without sharing. Finding its answer positions is not timed, and the faster of one thread and all
cores counts. Losses must agree. "Of the floor": the multiply-adds that the rows need at least,
divided by the speed of this machine in a large matrix product.

    python benchmarks/scoring.py [--quick] [--json FILE] [--rows N] [--pool FILE --images DIR]
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from thresher.backends.hf.threads import limit_idle_threads  # noqa: E402

# before torch: spinning OpenMP threads would slow the loop down a lot on a busy machine
limit_idle_threads()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from thresher.backends import resolve  # noqa: E402
from thresher.backends.hf.backend import HFBackend  # noqa: E402
from thresher.backends.hf.conversation import Conversation, after_demonstration, conversation  # noqa: E402
from thresher.backends.hf.encode import template_arguments  # noqa: E402
from thresher.backends.hf.forward import available_cores  # noqa: E402
from thresher.pools import Pool, open_pool  # noqa: E402
from thresher.types import Sample, Scored  # noqa: E402

SHARED = ROOT.parent / "shared" / "data" / "easy_vqa"


def obvious_losses(
    backend: HFBackend, conversations: Sequence[Conversation], pool: Pool, threads: int
) -> tuple[float, np.ndarray]:
    """Time in seconds and losses of the naive loop. Answer positions are found before the timer
    starts."""
    answers = [
        backend.prepare([c], range(1), pool, backend.shrinks_images and len(c.images) > 1)
        .rows[0]
        .answer_positions
        for c in conversations
    ]
    processor, model = backend.encoder.processor, backend.forward.model
    settings = template_arguments(processor)
    torch.set_num_threads(threads)
    out = []
    start = time.perf_counter()
    for conv, at in zip(conversations, answers, strict=True):
        images = iter([pool.load_image(ref) for ref in conv.images])
        messages = [
            {
                "role": m.role,
                "content": [
                    {"type": "image", "image": next(images)}
                    if p is None
                    else {"type": "text", "text": p}
                    for p in m.parts
                ],
            }
            for m in conv.messages
        ]
        inputs = processor.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_tensors="pt", **settings
        ).to(model.device)
        with torch.inference_mode():
            logp = model(**inputs).logits[0].float().log_softmax(-1)
        where = torch.from_numpy(at).to(model.device)
        out.append(
            float(-logp[where - 1].gather(-1, inputs["input_ids"][0][where][:, None]).mean())
        )
    seconds = time.perf_counter() - start
    torch.set_num_threads(1)
    return seconds, np.array(out)


def timed(pieces: Iterator[Scored], n: int) -> tuple[float, np.ndarray]:
    nll = np.full(n, np.nan)
    start = time.perf_counter()
    for piece in pieces:
        nll[piece.index] = piece.values["nll"]
    return time.perf_counter() - start, nll


def matmul_speed() -> float:
    """fp32 multiply-adds per second of a large matrix product on all cores."""
    torch.set_num_threads(available_cores())
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best = 1e9
    for _ in range(5):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    torch.set_num_threads(1)
    return 2048**3 / best


def multiply_adds(backend: HFBackend, samples: Sequence[Sample], pool: Pool) -> float:
    """Minimum multiply-adds for the rows: all tokens through the language model, all images
    through the vision tower."""
    model = backend.forward.model
    language = sum(
        p.numel()
        for n, p in model.named_parameters()
        if p.ndim == 2 and "vision" not in n and "visual" not in n
    )
    embedding = model.get_input_embeddings().weight.numel()
    tower = sum(
        p.numel()
        for n, p in model.named_parameters()
        if p.ndim >= 2 and ("vision" in n or "visual" in n)
    )
    block = backend.prepare([conversation(s) for s in samples], range(len(samples)), pool, False)
    tokens = sum(len(r.ids) for r in block.rows)
    answers = sum(len(r.answer_positions) for r in block.rows)
    image_tokens = sum(
        int((r.ids == backend.encoder.image_token_id).sum()) for r in block.rows
    ) / max(len(block.rows), 1)
    patches = image_tokens * len(block.images)
    head = model.get_output_embeddings().weight
    inner = (
        language
        - embedding
        - (0 if head.data_ptr() == model.get_input_embeddings().weight.data_ptr() else embedding)
    )
    return float(tokens * inner + answers * embedding + patches * tower)


def measure(
    name: str, backend: HFBackend, pool: Pool, rows: int, loop_rows: int
) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    first = int(rng.integers(0, max(len(pool) - rows, 1)))
    samples = [
        s for s in pool.samples(list(range(first, min(first + rows, len(pool))))) if not s.problem
    ]
    bank = pool.samples(rng.integers(0, len(pool), 64).tolist())
    demos = [bank[int(i)] for i in rng.integers(0, len(bank), len(samples))]
    some = rng.choice(len(samples), min(loop_rows, len(samples)), replace=False)
    out = []
    for label, talk, ours in (
        (
            "answer_loss",
            [conversation(s) for s in samples],
            lambda: backend.answer_loss(samples, pool, backend.shrinks_images),
        ),
        (
            "one_shot",
            [after_demonstration(d, s) for d, s in zip(demos, samples, strict=True)],
            lambda: backend.one_shot(samples, demos, pool),
        ),
    ):
        timed(ours(), len(samples))  # warm
        seconds, nll = min((timed(ours(), len(samples)) for _ in range(2)), key=lambda x: x[0])
        loop_seconds, loop_nll = min(
            (
                obvious_losses(backend, [talk[i] for i in some], pool, threads)
                for threads in (1, available_cores())
            ),
            key=lambda x: x[0],
        )
        worst = float(np.max(np.abs(loop_nll - nll[some])))
        if worst > 1e-3:
            raise SystemExit(
                f"{name} {label}: the loop and thresher disagree by {worst} nats: nothing was "
                "measured"
            )
        speed, peer = len(samples) / seconds, len(some) / loop_seconds
        entry = {
            "name": f"{name}: {label}",
            "ours": speed,
            "peer": peer,
            "ratio": speed / peer,
            "unit": "rows/s",
        }
        entry["worst_difference_nats"] = worst
        if label == "answer_loss":
            entry["of_floor"] = multiply_adds(backend, samples, pool) / matmul_speed() / seconds
        out.append(entry)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--images", type=Path)
    arguments = parser.parse_args()
    rows = arguments.rows or (512 if arguments.quick else 4096)
    loop_rows = 48 if arguments.quick else 256
    file, images = arguments.pool, arguments.images
    with tempfile.TemporaryDirectory() as scratch:
        if file is None and SHARED.exists():
            file, images = SHARED / "train.json", SHARED / "images"
        elif file is None:
            from thresher.demo.pool import make_pool

            file = make_pool(Path(scratch), rows=rows)
            images = file.parent
        pool = open_pool(file, images, cache=Path(scratch))
        from tests.tiny_models import build

        models = {"demo": "demo", "tiny Qwen2.5-VL": str(build("qwen2_5_vl"))}
        if not arguments.quick:
            models["Qwen2.5-VL, 26 M"] = str(build("qwen2_5_vl", size="small"))
        results = []
        for name, spec in models.items():
            slow = "26 M" in name
            results += measure(
                name,
                resolve(spec).open(),
                pool,
                rows // 8 if slow else rows,
                loop_rows // 4 if slow else loop_rows,
            )
    table = Table(
        title=f"Scoring on {file.name}, {available_cores()} cores, {platform.machine()}, torch "
        f"{torch.__version__}, fp32"
    )
    for column in (
        "",
        "thresher rows/s",
        "loop rows/s",
        "ratio",
        "worst difference, nats",
        "of the floor",
    ):
        table.add_column(column, justify="left" if not column else "right")
    for r in results:
        floor = f"{r['of_floor']:.0%}" if "of_floor" in r else ""
        table.add_row(
            r["name"],
            f"{r['ours']:,.0f}",
            f"{r['peer']:,.1f}",
            f"{r['ratio']:.1f}x",
            f"{r['worst_difference_nats']:.1e}",
            floor,
        )
    Console(width=120).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
