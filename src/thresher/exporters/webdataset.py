"""WebDataset: tars whose members with one prefix are a sample: `000000000.json`, `000000000.0.jpg`,
…

`path`: NAME.tar for one tar, else a folder, which gets 000000.tar, 000001.tar, … of at most
`SHARD_ROWS` rows or `SHARD_BYTES`. The JSON is the row's record in LLaVA's form, including image
paths; images are always members, in the row's order. Image paths of rows with unreadable images
stay in the JSON. Memory: one row.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ConfigError
from thresher.exporters import target
from thresher.exporters.images import ExportImages
from thresher.exporters.options import Options
from thresher.exporters.rows import Rows, to_json
from thresher.pools.embedded import extension

if TYPE_CHECKING:
    from thresher.pools import Pool

SHARD_ROWS = 10_000
SHARD_BYTES = 1 << 30


def export(
    pool: Pool, rows: np.ndarray, path: Path, format: str, options: Options
) -> tuple[str, ...]:
    """See `thresher.exporters.export`. `format`: "webdataset"."""
    single = path.name.lower().endswith(".tar")
    if not single and path.suffix:
        raise ConfigError(
            f"{path} is neither a .tar nor a folder. Give NAME.tar for one tar, or a folder for "
            "shards."
        )
    if single:
        target.file(path)
    elif path.is_dir() and (old := sorted(path.glob("*.tar"))):
        raise ConfigError(
            f"{path} already contains tars ({old[0].name}). Give another folder: old and new "
            "shards would mix."
        )
    stream, images = Rows(pool, rows), ExportImages(pool, path, options)
    samples = _samples(stream, images)
    first = next(samples, None)
    number = 0
    while first is not None or number == 0:
        shard = path if single else path / f"{number:06d}.tar"
        with ExitStack() as stack:
            out = stack.enter_context(target.open_atomic(shard))
            tar = stack.enter_context(
                tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT)
            )
            n_rows = 0
            while first is not None and (
                single or (n_rows < SHARD_ROWS and tar.offset < SHARD_BYTES)
            ):
                for name, content in first:
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                tar.members = []  # type: ignore[attr-defined]  # free memory
                n_rows += 1
                first = next(samples, None)
        number += 1
    return (*stream.loss_notes("webdataset"), *images.notes())


def _samples(stream: Rows, images: ExportImages) -> Iterator[list[tuple[str, bytes]]]:
    """The members of each sample, JSON first."""
    for i, row in enumerate(stream):
        record: dict[str, Any] = dict(row.fields)
        contents = images.contents(row.images)
        names = (
            [ref.path for ref in row.images if ref.path]
            if contents is not None
            else [images.name(ref) for ref in row.images]
        )
        if names:
            record["image"] = names[0] if len(names) == 1 else names
        record["conversations"] = row.turns
        members = [(f"{i:09d}.json", to_json(record, stream.lost))]
        for j, content in enumerate(contents or []):
            suffix = extension(content)
            members.append((f"{i:09d}.{j}.{suffix}", content))
        yield members
