"""WebDataset: tars in which the members of one prefix are a sample: `000000000.json`, `000000000.0.jpg`, …

`path`: NAME.tar, one tar; else a folder, which gets 000000.tar, 000001.tar, … of at most `SHARD_ROWS` rows or
`SHARD_BYTES`. The json is the row's record in LLaVA's form, image paths included; images are always members, in the order
of the row. Image paths of rows whose images cannot be read stay in the json. Memory: one row.
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
from thresher.exporters.options import Options
from thresher.exporters.pictures import Pictures
from thresher.exporters.rows import Rows, plain
from thresher.pools.embedded import extension

if TYPE_CHECKING:
    from thresher.pools import Pool

SHARD_ROWS = 10_000
SHARD_BYTES = 1 << 30


def export(pool: Pool, rows: np.ndarray, path: Path, format: str, options: Options) -> tuple[str, ...]:
    """See `thresher.exporters.export`. `format`: "webdataset"."""
    single = path.name.lower().endswith(".tar")
    if not single and path.suffix:
        raise ConfigError(f"{path} is neither a .tar nor a folder. Give NAME.tar for one tar, or a folder for shards.")
    if single:
        target.file(path)
    elif path.is_dir() and (old := sorted(path.glob("*.tar"))):
        raise ConfigError(
            f"{path} holds tars already ({old[0].name}). Give another folder: old and new shards would mix."
        )
    stream, pictures = Rows(pool, rows), Pictures(pool, path, options)
    samples = _samples(stream, pictures)
    first = next(samples, None)
    number = 0
    while first is not None or number == 0:
        shard = path if single else path / f"{number:06d}.tar"
        with ExitStack() as stack:
            out = stack.enter_context(target.writing(shard))
            tar = stack.enter_context(tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT))
            held = 0
            while first is not None and (single or (held < SHARD_ROWS and tar.offset < SHARD_BYTES)):
                for name, content in first:
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
                held += 1
                first = next(samples, None)
        number += 1
    return (*stream.losses("webdataset"), *pictures.remarks())


def _samples(stream: Rows, pictures: Pictures) -> Iterator[list[tuple[str, bytes]]]:
    """The members of each sample, the json first."""
    for at, row in enumerate(stream):
        record: dict[str, Any] = dict(row.fields)
        contents = pictures.contents(row.images)
        names = (
            [i.path for i in row.images if i.path] if contents is not None else [pictures.name(i) for i in row.images]
        )
        if names:
            record["image"] = names[0] if len(names) == 1 else names
        record["conversations"] = row.turns
        members = [(f"{at:09d}.json", plain(record, stream.lost))]
        for i, content in enumerate(contents or []):
            suffix = extension(content)
            members.append((f"{at:09d}.{i}.{suffix}", content))
        yield members
