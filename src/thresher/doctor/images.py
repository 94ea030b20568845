"""What reading every image tells: files that cannot be used, and those that are read in a way worth
knowing.

Images are read in threads (decoding leaves Python). Nothing that a file holds raises.
"""

from __future__ import annotations

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from thresher.console.progress import Progress
from thresher.doctor.findings import Findings
from thresher.duplicates import image as image_signatures
from thresher.errors import ImageError, MissingExtra
from thresher.pools import Pool
from thresher.pools.files import is_remote
from thresher.pools.image_formats import extension_matches
from thresher.pools.image_opening import open_image
from thresher.pools.images import decode
from thresher.pools.paths import printable, unsafe_path_reason
from thresher.types import ImageRef

SMALLEST = 8  # pixels on a side
MOSTLY = 0.9  # of the images: where more are missing, the folder is to blame
# images handed to the threads at once: a million futures would cost more than the images
SLICE = 1024
ERRORS = (
    "missing-image",
    "empty-image",
    "not-an-image",
    "broken-image",
    "huge-image",
    "unsafe-path",
    "remote-url",
)
ODDITIES = (
    "image-extension",
    "tiny-image",
    "palette-image",
    "alpha-image",
    "cmyk-image",
    "wide-image",
    "animated-image",
    "rotated-image",
)


@dataclass(frozen=True)
class Seen:
    """One image: kind -> detail of what was found, content hash (b"" = not read), what it looks
    like (None: not asked)."""

    kinds: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    look: image_signatures.ImageSignature | None = None


def look_at_images(
    pool: Pool, found: Findings, workers: int, progress: Progress, near: bool
) -> list[image_signatures.ImageSignature | None]:
    """What each image of the pool's table looks like (None: not read, or `near` is false)."""
    m = len(pool.index.image_path)
    seen: list[Seen] = []
    # where each image is named first: a search for each would take m times as long
    first = np.zeros(m, np.int64)
    numbers, at = np.unique(pool.index.image_ref, return_index=True)
    first[numbers] = at
    progress.start("reading images", m, 0)
    try:
        with ThreadPoolExecutor(workers) as threads:
            for start in range(0, m, SLICE):
                for one in threads.map(
                    lambda i: _look(pool, i, int(first[i]), near),
                    range(start, min(start + SLICE, m)),
                ):
                    seen.append(one)
                    progress.advance(1)
    finally:
        progress.finish()
    for kind in (*ERRORS, *ODDITIES):
        hit = {i: one.kinds[kind] for i, one in enumerate(seen) if kind in one.kinds}
        _report(pool, found, kind, hit)
        if kind in ERRORS:
            found.bad_images |= {pool.index.image_path[i]: kind for i in hit}
    missing = [i for i, one in enumerate(seen) if "missing-image" in one.kinds]
    respelled = sum(pool.spellings.find(pool.index.image_path[i]) != "" for i in missing)
    if respelled:
        found.notes.append(
            f"{respelled:,} of {len(missing):,} missing images are there under another spelling "
            "of their path: --fix FILE writes a copy of the pool with the paths as they are on "
            "disk."
        )
    lacking = len(missing) - respelled
    if lacking > MOSTLY * m:
        found.notes.append(
            f"{lacking:,} of {m:,} images are not there, so the image folder is probably another "
            f"one than {pool.images_folder}: give the folder that the image paths start from with "
            "--images."
        )
    _report(pool, found, "duplicate-image", _same_files(pool, seen))
    return [one.look for one in seen]


def _report(pool: Pool, found: Findings, kind: str, hit: dict[int, str]) -> None:
    """Rows of the images `hit` (number -> detail); of a row the first such image is told of."""
    if not hit:
        return
    bad = np.zeros(len(pool.index.image_path), np.bool_)
    bad[list(hit)] = True
    at = np.flatnonzero(bad[pool.index.image_ref])
    rows, first = np.unique(pool.image_ref_rows()[at], return_index=True)
    number = dict(zip(rows.tolist(), pool.index.image_ref[at[first]].tolist(), strict=True))
    found.add(kind, rows, lambda row: hit[number[row]], images=int(bad.sum()))


def _same_files(pool: Pool, seen: list[Seen]) -> dict[int, str]:
    names = pool.index.image_path
    first: dict[bytes, int] = {}
    out = {}
    for i, one in enumerate(seen):
        if one.content and (original := first.setdefault(one.content, i)) != i:
            out[i] = f"{printable(names[i])} is {printable(names[original])}"
    return out


def _look(pool: Pool, number: int, first: int, near: bool) -> Seen:
    """Read and decode one image, whose first reference is `first`. Never raises for what a file
    holds."""
    index = pool.index
    embedded = bool(index.embedded[number])
    path = index.image_path[number]
    name = "embedded image" if embedded else printable(path)
    if not embedded and (reason := unsafe_path_reason(path)):
        kind, _, words = reason.partition(": ")
        return Seen({kind: f"{name}: {words}"})
    if not embedded and index.image_size[number] < 0:
        return Seen({"missing-image": name + _siblings(pool, path)})
    data = b""
    try:
        ref = _embedded(pool, first) if embedded else pool.image(number)
        data = pool.image_bytes(ref)
        rgb, form = decode(io.BytesIO(data), name)
    except ImageError as error:
        return Seen({error.kind: str(error)}, _hash(data) if data else b"")
    kinds = {} if embedded else _extension(path, name, form)
    kinds |= _oddities(data, name)
    return Seen(kinds, _hash(data), _look_of(rgb) if near else None)


def _embedded(pool: Pool, reference: int) -> ImageRef:
    """The image of an entry of `index.image_ref`, with its bytes."""
    end = pool.index.image_end
    row = int(np.searchsorted(end, reference, side="right"))
    return pool.sample(row).images[reference - (int(end[row - 1]) if row else 0)]


def _look_of(rgb: Any) -> image_signatures.ImageSignature | None:
    try:
        return image_signatures.image_signature(rgb)
    except MissingExtra:  # the doctor says once that near duplicates were not looked for
        return None


def _extension(path: str, name: str, form: str) -> dict[str, str]:
    extension = PurePosixPath(path).suffix.lower()[1:]
    return (
        {"image-extension": f"{name} holds {form}"}
        if extension and not extension_matches(form, extension)
        else {}
    )


def _oddities(data: bytes, name: str) -> dict[str, str]:
    """What the header of an image that can be decoded says."""
    with open_image(io.BytesIO(data), name) as image:
        mode, (width, height), info = image.mode, image.size, image.info
        try:
            frames = int(getattr(image, "n_frames", 1))
        # Pillow raises a dozen types on a damaged later frame, which nobody needs
        except Exception:  # noqa: BLE001
            frames = 0
        try:
            turned = int(image.getexif().get(0x0112, 1) or 1)
        except Exception:  # noqa: BLE001 - a damaged EXIF block is not worth a finding of its own
            turned = 1
    out = {}
    if min(width, height) < SMALLEST:
        out["tiny-image"] = f"{name}: {width} x {height}"
    if mode in ("P", "PA"):
        out["palette-image"] = name
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in info:
        out["alpha-image"] = f"{name}: {mode}"
    if mode == "CMYK":
        out["cmyk-image"] = name
    if mode.startswith("I") or mode == "F":
        out["wide-image"] = f"{name}: {mode}"
    if frames != 1:
        out["animated-image"] = (
            f"{name}: {frames} frames" if frames else (f"{name}: damaged after its first frame")
        )
    if turned != 1:
        out["rotated-image"] = f"{name}: orientation {turned}"
    return out


def _hash(data: bytes) -> bytes:
    """16 bytes that tell two contents apart."""
    return hashlib.blake2b(data, digest_size=16).digest()


def _siblings(pool: Pool, path: str) -> str:
    """What to add where a file of the same name with another extension stands beside the missing
    one: " (there is x.gif)".

    The same where the file is there under another spelling of its path.
    """
    if other := pool.spellings.describe(path):
        return f" ({other})"
    there = siblings(pool, path)
    return f" (there is {printable(os.path.basename(there[0]))})" if there else ""


def siblings(pool: Pool, path: str) -> list[str]:
    """Paths of existing files that may be meant, most likely first: the same path spelled in
    another way, else the same name with another image extension.
    """
    if is_remote(pool.image_root):
        return []
    if other := pool.spellings.find(path):
        return [other]
    stem = os.path.splitext(path)[0]
    names = [
        stem + e
        for e in (".jpg", ".jpeg", ".png", ".gif", ".webp", ".JPG", ".JPEG", ".PNG", ".GIF")
    ]
    return [
        n
        for n in names
        if n != path
        and not unsafe_path_reason(n)
        and os.path.isfile(os.path.join(pool.image_root, n))
    ]
