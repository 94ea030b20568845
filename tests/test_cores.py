"""The number of cores, on systems with and without affinity masks."""

from __future__ import annotations

import os

import pytest

from thresher.cores import usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity masks here")
def test_affinity_mask_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 6})
    assert usable_cores() == 3


@pytest.mark.parametrize(("count", "expected"), [(10, 10), (None, 1)])
def test_without_affinity_masks_all_cores_count(
    count: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS has no `sched_getaffinity`."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert usable_cores() == expected


def test_model_runs_without_affinity_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from thresher.backends.hf.blocks import image_threads
    from thresher.backends.hf.forward import available_cores

    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert available_cores() == 12
    assert image_threads("cpu") == image_threads("cuda") == 11


def test_threads_for_images_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """OMP_NUM_THREADS limits the model on the CPU, not what feeds a GPU."""
    pytest.importorskip("torch")
    from thresher.backends.hf import blocks

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(blocks, "usable_cores", lambda: 64)
    assert (blocks.image_threads("cpu"), blocks.image_threads("cuda")) == (1, 16)
