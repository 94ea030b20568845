"""The HF backend on a GPU, against the same models on the CPU. `make test-gpu`; needs CUDA."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.backends.hf.opened_backends import opened
from tests.backends.hf.random_rows import Images, ask, collect, some_rows
from tests.tiny_models import ARCHITECTURES, build
from thresher.backends import resolve
from thresher.backends.hf.backend import HFBackend
from thresher.backends.hf.conversation import conversation

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

ROWS = some_rows(24, seed=3)
FP32, BF16 = 2e-3, 0.1  # nats per answer token


def on_gpu(name: str, dtype: str = "float32", batch_tokens: int | None = None) -> HFBackend:
    backend: HFBackend = resolve(
        str(build(name)), device="cuda", dtype=dtype, batch_tokens=batch_tokens
    ).open()
    assert backend.forward.device.type == "cuda"
    return backend


@pytest.fixture(autouse=True)
def _exact_products() -> Iterator[None]:
    """Matrix products in full fp32, as on the CPU."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_losses_are_those_of_the_cpu(name: str) -> None:
    expected, failed = collect(opened(name).answer_loss(ROWS, Images()), len(ROWS))
    found, also = collect(on_gpu(name).answer_loss(ROWS, Images()), len(ROWS))
    assert also.keys() == failed.keys()
    assert np.allclose(found["nll"], expected["nll"], atol=FP32)
    assert found["tokens"].tolist() == expected["tokens"].tolist()


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava", "gemma3"])
def test_bf16_is_close(name: str) -> None:
    expected, _ = collect(opened(name).answer_loss(ROWS, Images()), len(ROWS))
    found, _ = collect(on_gpu(name, "bfloat16").answer_loss(ROWS, Images()), len(ROWS))
    assert np.abs(found["nll"] - expected["nll"]).mean() < BF16


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava"])
def test_states_questions_and_demonstrations_are_those_of_the_cpu(name: str) -> None:
    from thresher.types import Query

    rows = [ask("What is it?", "A cat.", str(k % 5)) for k in range(8)]
    demonstrations = [ask("How many?", "Two.", "5")] * len(rows)
    prompts = [type(r)(r.id, r.turns[:1], r.images) for r in rows]
    query = Query("Is it red?", ("Yes", "No"))
    results = []
    for backend in (opened(name), on_gpu(name)):
        states, _ = collect(backend.read(rows, Images(), states=[(0.5, "all")]), len(rows))
        shots, _ = collect(backend.one_shot(rows, demonstrations, Images()), len(rows))
        answers, _ = collect(backend.ask(prompts, [query], Images()), len(rows))
        results.append((states["states"], shots["nll"], answers["logprob"]))
    for cpu, gpu in zip(*results, strict=True):
        assert np.allclose(cpu, gpu, atol=FP32)


def test_batch_size_hardly_matters() -> None:
    found = [
        collect(on_gpu("qwen2_5_vl", batch_tokens=n).answer_loss(ROWS, Images()), len(ROWS))[0]
        for n in (64, 4096)
    ]
    assert np.allclose(found[0]["nll"], found[1]["nll"], atol=FP32)


def test_out_of_memory_makes_batches_smaller() -> None:
    backend = on_gpu("qwen2_5_vl", batch_tokens=2**20)
    rows = [ask("What is it? " * 40, "A cat.") for _ in range(4096)]
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_allocated() + 256 * 2**20
    torch.cuda.set_per_process_memory_fraction(
        allowed / torch.cuda.get_device_properties(0).total_memory
    )
    try:
        found, errors = collect(backend.answer_loss(rows, Images()), len(rows))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert not errors and backend.forward.batch_tokens < 2**20
    assert np.ptp(found["nll"]) < FP32 and np.isfinite(found["nll"]).all()


def test_images_wait_in_pinned_memory() -> None:
    backend = on_gpu("qwen2_5_vl")
    rows = [ask("What is it?", "A cat.", "1"), ask("How many?", "Two.", "2")]
    block = backend.prepare([conversation(r) for r in rows], range(2), Images(), False)
    assert len(block.images) == 2
    assert all(t.is_pinned() for image in block.images.values() for t in image.inputs.values())


def test_probe_measures_the_gpu() -> None:
    backend = on_gpu("qwen2_5_vl")
    probe = backend.probe(ROWS, Images())
    assert probe.seconds > 0 and probe.tokens > 0
    assert probe.peak_bytes is not None and probe.peak_bytes <= torch.cuda.max_memory_reserved()
