"""What the frozen vision tower sees in each picture, computed once: the projector's input.

    features.npy    float16 [pictures, 16, 1536], in the order of the sorted file names
    done-R-of-W     pictures that worker R has finished, as a number; an interrupted run resumes

Two workers fill the same file, each its own half.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thresher.storage.atomic import atomic_write

CHUNK = 64


def compute(
    model: Any, processor: Any, paths: Sequence[Path], folder: Path, rank: int, world: int
) -> None:
    """Fill this worker's share of features.npy; returns when it is complete."""
    import torch

    size = len(paths)
    start, end = rank * size // world, (rank + 1) * size // world
    marker = folder / f"done-{rank}-of-{world}"
    done = int(marker.read_text()) if marker.exists() else start
    if done >= end:
        return
    array = open_features(folder, size, model)
    while done < end:
        stop = min(done + CHUNK, end)
        with torch.no_grad():
            array[done:stop] = seen(model, pixels(processor, paths[done:stop])).cpu().numpy()
        array.flush()
        done = stop
        with atomic_write(marker) as temporary:
            temporary.write_text(str(done))
        if rank == 0:
            print(f"\rfeatures {done - start:,}/{end - start:,}", end="", flush=True)
    if rank == 0:
        print()


def pixels(processor: Any, paths: Sequence[Path]) -> Any:
    """float32 [n, 3, 112, 112]."""
    from PIL import Image

    images = [Image.open(p).convert("RGB") for p in paths]
    return processor.image_processor(images=images, return_tensors="pt")["pixel_values"]


def seen(model: Any, pixels: Any) -> Any:
    """The projector's input, float16 [n, 16, 1536]: the tower's patches after the pixel shuffle."""
    tower = model.model.vision_tower
    pixels = pixels.to(tower.device, next(tower.parameters()).dtype)
    patches = tower(pixels).last_hidden_state[:, 1:]  # without the class token
    n, count, dim = patches.shape
    side = round(count**0.5)
    grid = patches.reshape(n, side, side, dim)
    ratio = model.config.downsample_ratio
    return model.model.pixel_shuffle(grid, scale_factor=ratio).reshape(n, -1, dim * 4).half()


def open_features(folder: Path, pictures: int, model: Any) -> np.ndarray:
    """features.npy for writing; created if missing. Several workers may call it at once."""
    path = folder / "features.npy"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        vision = model.config.vision_config
        side = vision.image_size[0] // vision.patch_size[0] // 2
        shape = (pictures, side**2, vision.hidden_size * 4)
        temporary = folder / f"new-{np.random.default_rng().integers(2**60):x}.npy"
        np.lib.format.open_memmap(temporary, "w+", np.float16, shape).flush()
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            pass  # the other worker was first
        temporary.unlink()
    return np.load(path, mmap_mode="r+")
