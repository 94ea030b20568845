"""Findings from reading every image: files that cannot be used, and those that are converted.

Images are read in threads (decoding releases the GIL). No file content raises an exception.
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
from thresher.errors import ImageError, MissingExtra, opt
from thresher.pools import Pool
from thresher.pools.files import is_remote
from thresher.pools.image_formats import extension_matches
from thresher.pools.image_opening import open_image
from thresher.pools.images import decode
from thresher.pools.paths import printable, unsafe_path_reason
from thresher.types import ImageRef

MIN_SIDE = 8  # pixels per side
MISSING_FOLDER_SHARE = 0.9  # of the images: if more are missing, the image folder is probably wrong
# images submitted to the threads at once: a million futures would cost more than the images
CHUNK_IMAGES = 1024
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
class ImageReport:
    """One image: kind -> detail of its findings, content hash (b"" = not read), signature (None:
    not computed).
    """

    kinds: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    signature: image_signatures.ImageSignature | None = None


def check_images(
    pool: Pool, findings: Findings, workers: int, progress: Progress, near: bool
) -> list[image_signatures.ImageSignature | None]:
    """Read every image and add what is found.

    Arguments:
        pool: the pool.
        findings: where to add what is found.
        workers: number of threads.
        progress: displays the images done.
        near: also compute signatures for finding near duplicates.

    Returns the signature of each image of the pool's table (None: not read, or `near` is false).
    """
    m = len(pool.index.image_path)
    reports: list[ImageReport] = []
    # the first reference to each image; searching for each would take m times as long
    first = np.zeros(m, np.int64)
    numbers, reference = np.unique(pool.index.image_ref, return_index=True)
    first[numbers] = reference
    progress.start("reading images", m, 0)
    try:
        with ThreadPoolExecutor(workers) as threads:
            for start in range(0, m, CHUNK_IMAGES):
                for report in threads.map(
                    lambda i: _check_image(pool, i, int(first[i]), near),
                    range(start, min(start + CHUNK_IMAGES, m)),
                ):
                    reports.append(report)
                    progress.advance(1)
    finally:
        progress.finish()
    for kind in (*ERRORS, *ODDITIES):
        details = {
            i: report.kinds[kind] for i, report in enumerate(reports) if kind in report.kinds
        }
        _report(pool, findings, kind, details)
        if kind in ERRORS:
            findings.bad_images |= {pool.index.image_path[i]: kind for i in details}
    missing = [i for i, report in enumerate(reports) if "missing-image" in report.kinds]
    respelled = sum(pool.spellings.find(pool.index.image_path[i]) != "" for i in missing)
    if respelled:
        findings.note(
            f"{respelled:,} of {len(missing):,} missing images exist under another spelling of "
            f"their path: {opt('fix')} writes a copy of the pool with the paths as they are on "
            "disk."
        )
    not_found = len(missing) - respelled
    if not_found > MISSING_FOLDER_SHARE * m:
        findings.note(
            f"{not_found:,} of {m:,} images do not exist: {pool.images_named} is probably not the "
            f"image folder. Give the folder that the image paths are relative to: {opt('images')}."
        )
    _report(pool, findings, "duplicate-image", _same_files(pool, reports))
    return [report.signature for report in reports]


def _report(pool: Pool, findings: Findings, kind: str, details: dict[int, str]) -> None:
    """Add the rows of some images; a row's detail is that of its first such image.

    `details`: number of an image -> detail.
    """
    if not details:
        return
    affected = np.zeros(len(pool.index.image_path), np.bool_)
    affected[list(details)] = True
    references = np.flatnonzero(affected[pool.index.image_ref])
    rows, first = np.unique(pool.image_ref_rows()[references], return_index=True)
    number = dict(zip(rows.tolist(), pool.index.image_ref[references[first]].tolist(), strict=True))
    findings.add(kind, rows, lambda row: details[number[row]], images=int(affected.sum()))


def _same_files(pool: Pool, reports: list[ImageReport]) -> dict[int, str]:
    names = pool.index.image_path
    first: dict[bytes, int] = {}
    out = {}
    for i, report in enumerate(reports):
        if report.content and (original := first.setdefault(report.content, i)) != i:
            out[i] = f"{printable(names[i])} is {printable(names[original])}"
    return out


def _check_image(pool: Pool, number: int, first: int, near: bool) -> ImageReport:
    """Read and decode one image, whose first reference is `first`. No file content raises an
    exception.
    """
    index = pool.index
    embedded = bool(index.embedded[number])
    path = index.image_path[number]
    name = "embedded image" if embedded else printable(path)
    if not embedded and (reason := unsafe_path_reason(path)):
        kind, _, explanation = reason.partition(": ")
        return ImageReport({kind: f"{name}: {explanation}"})
    if not embedded and index.image_size[number] < 0:
        return ImageReport({"missing-image": name + _alternative_note(pool, path)})
    data = b""
    try:
        ref = _embedded(pool, first) if embedded else pool.image(number)
        data = pool.image_bytes(ref)
        rgb, form = decode(io.BytesIO(data), name)
    except ImageError as error:
        return ImageReport({error.kind: str(error)}, _hash(data) if data else b"")
    kinds = {} if embedded else _extension(path, name, form)
    kinds |= _oddities(data, name)
    return ImageReport(kinds, _hash(data), _signature(rgb) if near else None)


def _embedded(pool: Pool, reference: int) -> ImageRef:
    """The image of an entry of `index.image_ref`, with its bytes."""
    end = pool.index.image_end
    row = int(np.searchsorted(end, reference, side="right"))
    return pool.sample(row).images[reference - (int(end[row - 1]) if row else 0)]


def _signature(rgb: Any) -> image_signatures.ImageSignature | None:
    try:
        return image_signatures.image_signature(rgb)
    except MissingExtra:  # find_near_duplicates adds a note
        return None


def _extension(path: str, name: str, form: str) -> dict[str, str]:
    extension = PurePosixPath(path).suffix.lower()[1:]
    return (
        {"image-extension": f"{name} contains {form}"}
        if extension and not extension_matches(form, extension)
        else {}
    )


def _oddities(data: bytes, name: str) -> dict[str, str]:
    """Findings from the header of an image that can be decoded."""
    with open_image(io.BytesIO(data), name) as image:
        mode, (width, height), info = image.mode, image.size, image.info
        try:
            frames = int(getattr(image, "n_frames", 1))
        # Pillow raises a dozen exception types for a damaged later frame, which is not needed
        except Exception:  # noqa: BLE001
            frames = 0
        try:
            orientation = int(image.getexif().get(0x0112, 1) or 1)
        except Exception:  # noqa: BLE001 - a damaged EXIF block is not a finding
            orientation = 1
    findings = {}
    if min(width, height) < MIN_SIDE:
        findings["tiny-image"] = f"{name}: {width} x {height}"
    if mode in ("P", "PA"):
        findings["palette-image"] = name
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in info:
        findings["alpha-image"] = f"{name}: {mode}"
    if mode == "CMYK":
        findings["cmyk-image"] = name
    if mode.startswith("I") or mode == "F":
        findings["wide-image"] = f"{name}: {mode}"
    if frames != 1:
        findings["animated-image"] = (
            f"{name}: {frames} frames" if frames else (f"{name}: damaged after its first frame")
        )
    if orientation != 1:
        findings["rotated-image"] = f"{name}: orientation {orientation}"
    return findings


def _hash(data: bytes) -> bytes:
    """A 16-byte content hash."""
    return hashlib.blake2b(data, digest_size=16).digest()


def _alternative_note(pool: Pool, path: str) -> str:
    """A note on an existing file that the missing path may mean: " (there is x.gif)"; "" if there
    is none.
    """
    if spelling := pool.spellings.describe(path):
        return f" ({spelling})"
    alternatives = find_alternatives(pool, path)
    return f" (there is {printable(os.path.basename(alternatives[0]))})" if alternatives else ""


def find_alternatives(pool: Pool, path: str) -> list[str]:
    """Paths of existing files that a missing path may mean, most likely first: another spelling of
    the path, else the same name with another image extension.

    Arguments:
        pool: whose image folder is searched.
        path: of the missing image, as the record names it.
    """
    if is_remote(pool.image_root):
        return []
    if spelling := pool.spellings.find(path):
        return [spelling]
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
