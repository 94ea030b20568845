"""Benchmark of mmSSR's 15 questions (14 capabilities, one list of styles) in rows per second, asked
in four ways with the same weights and rows.

(i) The official way: one row at a time, 15 generations through the model's own processor, without
sharing. The faster of one thread and all cores counts, and generation stops after one token for a
score and eight for the styles. (ii) Each question with its whole prompt, batched over rows. (iii)
thresher's `ask`: one pass. (iv) A lower bound: one ordinary forward pass over the row as a
conversation (`answer_loss`). (ii) and (iii) must agree.

The models have random weights. Their usual tokenizer has few words and would make the questions
twice as long as a real one, so here a tokenizer of 8,192 words is trained on the project's own
texts.

    python benchmarks/judge.py [--quick] [--only MODEL] [--cpu-time] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import platform
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from thresher.backends.hf.threads import limit_idle_threads  # noqa: E402

limit_idle_threads()  # before torch

import numpy as np  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from tests import tiny_models  # noqa: E402
from thresher.backends import resolve  # noqa: E402
from thresher.backends.hf.backend import HFBackend  # noqa: E402
from thresher.backends.hf.conversation import conversation  # noqa: E402
from thresher.backends.hf.encode import template_arguments  # noqa: E402
from thresher.backends.hf.forward import available_cores  # noqa: E402
from thresher.signals.capabilities import CAPABILITIES, STYLES  # noqa: E402
from thresher.signals.judge import SYSTEM, Judge  # noqa: E402
from thresher.signals.query import Query, judge_prompt  # noqa: E402
from thresher.signals.style import Style  # noqa: E402
from thresher.types import ImageRef, ModelIdentity, Sample, Scored, Turn  # noqa: E402

CLOCK = [time.perf_counter]
ANYONE = ModelIdentity("none", "none", "float32", "pil")
QUERIES = [Judge(ANYONE, c).query() for c in CAPABILITIES] + [Style(ANYONE, STYLES[0]).query()]


@dataclasses.dataclass(frozen=True)
class Kind:
    """Synthetic rows: number of exchanges, words per answer, images and their size in pixels."""

    name: str
    exchanges: int
    words: int
    images: int
    pixels: tuple[int, int]


LONG = Kind("photographs, three exchanges", 3, 40, 1, (640, 480))
SHORT = Kind("thumbnails, one short exchange", 1, 2, 1, (64, 64))


class GeneratedImages:
    """A pool that generates its images."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.images = [tiny_models.picture(*size, seed) for seed in range(8)]

    def load_image(self, ref: ImageRef) -> Any:
        return self.images[int(ref.path)]

    def by_digest(self, digest: bytes) -> Sample:
        raise KeyError(digest)


def rows_of(kind: Kind, n: int, images: int) -> list[Sample]:
    rng = random.Random(0)
    words = sorted({w for text in texts() for w in text.split() if w.isalpha() and 2 < len(w) < 10})
    out = []
    for i in range(n):
        turns = []
        for k in range(kind.exchanges):
            shown = "<image>\n" * images if k == 0 else ""
            turns.append(Turn("user", shown + " ".join(rng.choices(words, k=9)) + "?"))
            turns.append(
                Turn("assistant", " ".join(rng.choices(words, k=kind.words)).capitalize() + ".")
            )
        refs = tuple(ImageRef(str(rng.randrange(8)), size=1) for _ in range(images))
        out.append(Sample(str(i), tuple(turns), refs))
    return out


def texts() -> list[str]:
    """Paragraphs of the project's documents and docstrings, and the questions."""
    files = sorted(
        [*ROOT.glob("docs/**/*.md"), *ROOT.glob("src/thresher/**/*.py"), ROOT / "README.md"]
    )
    lines = [
        line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()
    ]
    return [line for line in lines if line] + [q.text for q in QUERIES] * 2


@contextlib.contextmanager
def more_words() -> Iterator[None]:
    """A context in which the tiny models' tokenizers are trained on `texts`."""
    names = ("_SENTENCES", "QWEN_WORDS", "LLAVA_WORDS")
    before = {name: getattr(tiny_models, name) for name in names}
    try:
        tiny_models._SENTENCES = tuple(texts())
        for name in names[1:]:
            setattr(tiny_models, name, dataclasses.replace(before[name], vocab=8192))
        yield
    finally:
        for name, value in before.items():
            setattr(tiny_models, name, value)


def open_model(name: str, size: tiny_models.Size, folder: Path) -> HFBackend:
    with more_words():
        tiny_models.MODELS[name].write(folder, size)
    if name == "qwen2_5_vl":  # photographs keep their size, as they do in the published models
        file = folder / "processor_config.json"
        settings = json.loads(file.read_text())
        settings["image_processor"]["size"]["longest_edge"] = 28 * 28 * 1280
        settings["image_processor"].pop("max_pixels", None)
        file.write_text(json.dumps(settings))
    return resolve(str(folder)).open()


# ------------------------------------------------------------------------------------ the four ways


def official(
    backend: HFBackend, rows: Sequence[Sample], pool: GeneratedImages, threads: int
) -> float:
    """Time in seconds of 15 generations per row, one at a time."""
    processor, model = backend.encoder.processor, backend.forward.model
    settings = template_arguments(processor)
    torch.set_num_threads(threads)
    start = CLOCK[0]()
    for row in rows:
        for query in QUERIES:
            images = iter([pool.load_image(ref) for ref in row.images])
            messages = []
            for m in conversation(row).messages:
                parts = (
                    [*m.parts[:-1], f"{m.parts[-1]}{query.text}"]
                    if m.role == "user"
                    else list(m.parts)
                )
                content = [
                    {"type": "image", "image": next(images)}
                    if p is None
                    else {"type": "text", "text": p}
                    for p in parts
                ]
                messages.append({"role": m.role, "content": content})
            inputs = processor.apply_chat_template(
                messages,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                add_generation_prompt=True,
                **settings,
            )
            with torch.inference_mode():
                model.generate(**inputs, do_sample=False, max_new_tokens=8 if query.whole else 1)
    seconds = CLOCK[0]() - start
    torch.set_num_threads(1)
    return seconds


def asked(
    backend: HFBackend, rows: Sequence[Sample], pool: GeneratedImages, queries: Sequence[Query]
) -> np.ndarray:
    out = np.full((len(rows), sum(len(q.answers) for q in queries)), np.nan)
    for piece in backend.ask(rows, queries, pool):
        assert not any(piece.errors), piece.errors
        out[piece.index] = piece.values["logprob"]
    return out


def timed(job: Any) -> tuple[float, Any]:
    start = CLOCK[0]()
    result = job()
    if isinstance(result, Iterator):
        result = [p for p in result if isinstance(p, Scored)]
    return CLOCK[0]() - start, result


def measure(
    name: str, backend: HFBackend, kind: Kind, n: int, official_rows: int, repeats: int
) -> dict[str, Any]:
    images = kind.images
    pool = GeneratedImages(kind.pixels)
    samples = rows_of(kind, n, images)
    if backend.feature_tokens < 200 and kind is LONG and "llava" in name.lower():
        # LLaVA-1.5 has 576 tokens an image; these have fewer, so a row shows several of them, up to
        # that number
        per_image = len(
            backend.preparer.prepare(pool.load_image(samples[0].images[0]), False).expansion
        )
        samples = rows_of(kind, n, max(1, 576 // per_image) if per_image > 100 else 1)
    rows = [judge_prompt(s, SYSTEM) for s in samples]
    way = backend.query_mode

    def in_full() -> np.ndarray:
        """Time in seconds of one question after the other, each over all rows."""
        backend.forward.query_mode = "full"
        try:
            return np.hstack([asked(backend, few, pool, [q]) for q in QUERIES])
        finally:
            backend.forward.query_mode = way

    few = rows[: max(n // 4, 4)]
    for warm in (
        backend.answer_loss(samples[:4], pool, False),
        backend.ask(rows[:4], QUERIES, pool),
    ):
        timed(lambda warm=warm: warm)
    ours, alone = [], []
    # in turn, so that load on the machine affects all alike
    for _ in range(repeats):
        alone.append(timed(lambda: backend.answer_loss(samples, pool, False))[0])
        seconds, got = timed(lambda: asked(backend, rows, pool, QUERIES))
        ours.append(seconds)
    full, want = timed(in_full)
    loop = min(
        official(backend, rows[:official_rows], pool, t) for t in {1: None, available_cores(): None}
    )
    worst = float(np.abs(got[: len(few)] - want).max())
    if worst > 1e-3:
        raise SystemExit(
            f"{name}: packed and full passes disagree by {worst} nats: nothing was measured"
        )
    ask_block = _tokens(backend, samples[0], rows[0], pool)
    speed = n / min(ours)
    return {
        "name": f"{name}: {kind.name}",
        "asks": way,
        **ask_block,
        "official": official_rows / loop,
        "full": len(few) / full,
        "ours": speed,
        "single": n / min(alone),
        "of_official": speed * loop / official_rows,
        "of_full": speed * full / len(few),
        "single_passes": min(ours) / min(alone),
        "worst_difference_nats": worst,
        "unit": "rows/s",
    }


def _tokens(
    backend: HFBackend, sample: Sample, row: Sample, pool: GeneratedImages
) -> dict[str, int]:
    from thresher.backends.hf.ask_encode import AskEncoder

    encoder = AskEncoder(backend.encoder, backend.prompt_encoder, QUERIES, frozenset())
    packed = backend.prepare([conversation(row)], range(1), pool, False, encoder).rows[0]
    plain = backend.prepare([conversation(sample)], range(1), pool, False).rows[0]
    assert packed.trie is not None
    return {"row_tokens": len(plain.ids), "query_tokens": len(packed.trie.ids)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="the tiny models only, about a minute")
    parser.add_argument(
        "--cpu-time", action="store_true", help="CPU seconds of this process: for a busy machine"
    )
    parser.add_argument(
        "--only", help="of qwen2_5_vl-tiny, qwen2_5_vl-small, llava-tiny, llava-small: this one"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.cpu_time:
        CLOCK[0] = time.process_time
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for architecture, label in (("qwen2_5_vl", "Qwen2.5-VL"), ("llava", "LLaVA")):
            for size in ("tiny",) if arguments.quick else ("tiny", "small"):
                if arguments.only not in (None, f"{architecture}-{size}"):
                    continue
                backend = open_model(architecture, size, Path(scratch) / f"{architecture}-{size}")
                millions = sum(p.numel() for p in backend.forward.model.parameters()) / 1e6
                for kind in (LONG, SHORT):
                    small = size == "small"
                    n = (8 if kind is LONG else 32) if small else (32 if kind is LONG else 128)
                    loop_rows = 1 if small and kind is LONG else 2
                    name = f"{label}, {millions:.1f} M"
                    results.append(measure(name, backend, kind, n, loop_rows, 3))
                    print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    table = Table(
        title=f"15 questions a row, {available_cores()} cores, {platform.machine()}, torch "
        f"{torch.__version__}, fp32"
    )
    for column in (
        "rows/s",
        "tokens of a row + questions",
        "official",
        "15 full passes",
        "ours",
        "one pass",
        "ours / official",
        "ours / full",
        "one pass / ours",
    ):
        table.add_column(column, justify="left" if column == "rows/s" else "right")
    for r in results:
        table.add_row(
            r["name"],
            f"{r['row_tokens']} + {r['query_tokens']}",
            f"{r['official']:.2f}",
            f"{r['full']:.1f}",
            f"{r['ours']:.1f}",
            f"{r['single']:.1f}",
            f"{r['of_official']:.0f}x",
            f"{r['of_full']:.1f}x",
            f"{r['single_passes']:.2f}x",
        )
    Console(width=140).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
