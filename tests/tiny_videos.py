"""Small videos, written by PyAV: every frame has a shade of its own, so that another choice of
frames is another input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

FPS = 10
WIDTH, HEIGHT = 96, 64


def write_video(
    path: Path, frames: int = 24, *, seed: int = 0, width: int = WIDTH, height: int = HEIGHT
) -> Path:
    """A video of coloured clouds that grow lighter. Skips the test without PyAV."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    clouds = np.random.default_rng(seed).integers(0, 120, (height // 16, width // 16, 3))
    clouds = clouds.repeat(16, axis=0).repeat(16, axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 2_000_000
        for i in range(frames):
            shade = (clouds + 130 * i / max(frames - 1, 1)).astype(np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
