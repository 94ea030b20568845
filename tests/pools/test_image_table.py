"""Images and pool files are identified by content, so a score never belongs to other bytes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from tests.llava_rows import row
from tests.runs import compute
from thresher.errors import ImageError, PoolError
from thresher.pools import image_table, open_pool
from thresher.pools.pool import Pool
from thresher.storage import hashing
from thresher.storage.columns import Store
from thresher.types import CHANGED, Capability, Columns, Field, Sample, SampleSource, Scored, Signal

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (90, 90, 90), (10, 200, 200)]


@dataclass(frozen=True)
class Red:
    """The mean red of a row's image: a score that shows which bytes were looked at."""

    kind: ClassVar[str] = "red"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.NONE
    fields: ClassVar[tuple[Field, ...]] = (Field("red", "float32", "0 to 255"),)

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: Any, pool: SampleSource
    ) -> Iterator[Scored]:
        values, errors = [], []
        for sample in samples:
            try:
                values.append(float(np.asarray(pool.load_image(sample.images[0]))[..., 0].mean()))
                errors.append("")
            except ImageError as error:
                values.append(0.0)
                errors.append(str(error))
        yield Scored(np.arange(len(samples)), {"red": np.array(values, np.float32)}, errors)


def write(
    folder: Path, colours: Sequence[tuple[int, int, int]], suffix: str = "bmp", sub: str = "i"
) -> Path:
    """A pool whose rows have equal texts but for a number; images of equal size."""
    (folder / sub).mkdir(parents=True, exist_ok=True)
    rows = []
    for i, colour in enumerate(colours):
        Image.new("RGB", (6, 5), colour).save(folder / sub / f"{i}.{suffix}")
        rows.append(row(i, f"{sub}/{i}.{suffix}", f"<image>\nWhat is picture {i}?", "A colour."))
    (folder / "pool.json").write_text(json.dumps(rows))
    return folder / "pool.json"


def reds(pool: Pool, store: Store, **options: Any) -> tuple[list[float], list[str]]:
    column = compute(Red(), pool, store=store, on_missing="exclude", **options)
    return column.values["red"].tolist(), column.errors.tolist()


def overwrite(file: Path, data: bytes, how: str) -> None:
    """Other content of equal size under the same modification time."""
    about = file.stat()
    assert len(data) == about.st_size
    other = file.parent.parent / "other"
    other.write_bytes(data)
    os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))
    if how == "in place":
        file.write_bytes(data)
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    elif how == "cp -p":
        shutil.copy2(other, file)
    else:  # as rsync -t and git-lfs
        os.replace(other, file)
    assert file.stat().st_mtime_ns == about.st_mtime_ns


HOW = ["in place", "cp -p", "renamed over"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("suffix", ["bmp", "ppm"])
def test_overwritten_image_of_equal_size_is_rescored(tmp_path: Path, how: str, suffix: str) -> None:
    file, store = write(tmp_path, COLOURS, suffix), Store(tmp_path / "store")
    before = open_pool(file, cache=store.root / "pools")
    assert reds(before, store)[0] == [250, 0, 0, 90, 10]
    overwrite(tmp_path / f"i/0.{suffix}", (tmp_path / f"i/1.{suffix}").read_bytes(), how)
    after = open_pool(file, cache=store.root / "pools")
    assert np.flatnonzero(before.digest != after.digest).tolist() == [0]
    assert reds(after, store) == ([0, 0, 0, 90, 10], [""] * 5)


def test_pools_with_equal_names_and_sizes_share_no_scores(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    twins = [write(tmp_path / "a", COLOURS), write(tmp_path / "b", COLOURS[::-1])]
    assert twins[0].read_bytes() == twins[1].read_bytes()
    sizes = [[f.stat().st_size for f in sorted((t.parent / "i").iterdir())] for t in twins]
    assert sizes[0] == sizes[1]
    a, b = (open_pool(t, cache=store.root / "pools") for t in twins)
    assert reds(a, store)[0] == [250, 0, 0, 90, 10] and reds(b, store)[0] == [10, 90, 0, 0, 250]
    # the third image is the same
    assert (a.digest == b.digest).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("lines", [False, True])
def test_changed_pool_of_equal_size_and_time_is_reread(
    tmp_path: Path, how: str, lines: bool
) -> None:
    rows = [row(i, None, f"What is {i}?", "wrong") for i in range(3)]
    folder = tmp_path / "p"
    folder.mkdir()
    file = folder / ("pool.jsonl" if lines else "pool.json")
    file.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows))
    before = open_pool(file, cache=tmp_path / "cache")
    overwrite(file, file.read_bytes().replace(b"wrong", b"right"), how)
    after = open_pool(file, cache=tmp_path / "cache")
    assert {s.turns[1].text for s in after.samples(range(3))} == {"right"}
    assert not (before.digest == after.digest).any()


def test_equal_content_has_one_identity(tmp_path: Path) -> None:
    a = open_pool(write(tmp_path / "a", COLOURS, sub="images"))
    b = open_pool(write(tmp_path / "b", COLOURS, sub="renamed/deep"))
    assert a.digest.tobytes() == b.digest.tobytes()
    record = json.loads((tmp_path / "a/pool.json").read_text())[0]
    from thresher.pools.embedded import data_uri

    record["image"] = data_uri((tmp_path / "a" / record["image"]).read_bytes())
    (tmp_path / "inside.json").write_text(json.dumps([record]))
    assert open_pool(tmp_path / "inside.json").digest[0] == a.digest[0]


def test_touched_file_is_not_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thresher.pools import index

    file = write(tmp_path, COLOURS)
    first = open_pool(file, cache=tmp_path / "cache")
    monkeypatch.setattr(index, "build_index", None)  # parsing would fail
    os.utime(file)
    for image in (tmp_path / "i").iterdir():
        os.utime(image)
    (tmp_path / "i").rename(tmp_path / "j")
    (tmp_path / "j").rename(tmp_path / "i")
    for _ in range(2):
        assert open_pool(file, cache=tmp_path / "cache").digest.tobytes() == first.digest.tobytes()


def test_images_are_hashed_once_for_all_pools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, COLOURS)
    texts: list[tuple[int, int]] = []
    open_pool(file, cache=tmp_path / "cache", hashing=lambda done, todo: texts.append((done, todo)))
    assert texts[-1] == (5, 5)
    (tmp_path / "part.json").write_text(json.dumps(json.loads(file.read_text())[:3]))
    monkeypatch.setattr(image_table, "SPOT_CHECKS", 0)
    monkeypatch.setattr(image_table._LocalImages, "hash", None)
    del texts[:]
    part = open_pool(
        tmp_path / "part.json",
        cache=tmp_path / "cache",
        hashing=lambda done, todo: texts.append((done, 0)),
    )
    assert len(part) == 3 and not texts


@pytest.mark.parametrize("how", HOW)
def test_image_changed_during_a_run_is_a_row_failure(tmp_path: Path, how: str) -> None:
    file, store = write(tmp_path, COLOURS), Store(tmp_path / "store")
    pool = open_pool(file, cache=store.root / "pools")
    original = (tmp_path / "i/0.bmp").read_bytes()
    overwrite(tmp_path / "i/0.bmp", (tmp_path / "i/1.bmp").read_bytes(), how)
    values, errors = reds(pool, store)
    assert CHANGED in errors[0] and errors[1:] == [""] * 4 and values[1:] == [0, 0, 90, 10]
    assert reds(open_pool(file, cache=store.root / "pools"), store) == ([0, 0, 0, 90, 10], [""] * 5)
    # the failure that is stored of these bytes was none of theirs
    (tmp_path / "i/0.bmp").write_bytes(original)
    assert reds(open_pool(file, cache=store.root / "pools"), store) == (
        [250, 0, 0, 90, 10],
        [""] * 5,
    )


@pytest.mark.parametrize("how", ["in place", "renamed over", "another number of images"])
def test_pool_changed_during_a_run_stores_no_wrong_score(tmp_path: Path, how: str) -> None:
    file, store = write(tmp_path, COLOURS), Store(tmp_path / "store")
    pool = open_pool(file, cache=store.root / "pools")
    old = file.read_bytes()
    if how == "renamed over":  # an open file is still served
        overwrite(file, old.replace(b"What", b"Whom"), how)
        assert reds(pool, store)[0] == [250, 0, 0, 90, 10]
        assert not (open_pool(file, cache=store.root / "pools").digest == pool.digest).any()
        return
    new = (
        old.replace(b"What", b"Whom") if how == "in place" else old.replace(b'"image"', b'"imagf"')
    )
    overwrite(file, new, "in place")
    with pytest.raises(PoolError, match="changed since it was opened"):
        reds(pool, store)
    assert not list((tmp_path / "store").rglob("part-*.parquet"))


def test_rows_are_verified_by_digest(tmp_path: Path) -> None:
    file = write(tmp_path, COLOURS)
    pool = open_pool(file)
    pool._open_files.check = lambda: None  # type: ignore[method-assign]
    old = file.read_bytes()
    for new in (
        old.replace(b"What", b"Whom"),
        old.replace(b'"image"', b'"imagf"'),
        old.replace(b'{"id"', b'["id"'),
    ):
        file.write_bytes(new)
        with pytest.raises(PoolError, match="changed since it was opened"):
            pool.samples(range(5))
    file.write_bytes(old)
    assert len(pool.samples(range(5))) == 5


def test_trusted_paths_read_no_image_and_have_separate_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, cache = write(tmp_path, COLOURS), tmp_path / "cache"
    known = open_pool(file, cache=cache)
    monkeypatch.setattr(image_table._LocalImages, "hash", None)
    trusted = [open_pool(file, cache=cache, trust_paths=True) for _ in range(2)]
    assert trusted[0].digest.tobytes() == trusted[1].digest.tobytes()
    assert not np.isin(trusted[0].digest, known.digest).any()
    sample = trusted[1].sample(0)
    assert sample.images[0].identity.startswith("path:i/0.bmp:") and trusted[1].load_image(
        sample.images[0]
    )
    overwrite(tmp_path / "i/0.bmp", (tmp_path / "i/1.bmp").read_bytes(), "in place")
    again = open_pool(file, cache=cache, trust_paths=True)  # the old way, as asked for
    assert again.digest.tobytes() == trusted[0].digest.tobytes() and again.load_image(
        again.sample(0).images[0]
    )


def test_spot_check_detects_changes_with_equal_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = hashing.Stamp.of
    monkeypatch.setattr(
        hashing.Stamp, "of", lambda about: honest(about)._replace(mtime_ns=1, ctime_ns=1)
    )
    file, cache = write(tmp_path, COLOURS), tmp_path / "cache"
    before = open_pool(file, cache=cache)
    (tmp_path / "i/0.bmp").write_bytes((tmp_path / "i/1.bmp").read_bytes())
    after = open_pool(file, cache=cache)
    assert np.flatnonzero(before.digest != after.digest).tolist() == [0]
    assert any("overwritten" in n for n in after.notes)
    assert not open_pool(file, cache=cache).notes


def test_missing_images_are_identified_by_path(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bmp"
    file = write(tmp_path / "p", COLOURS[:2])
    (tmp_path / "p/i/0.bmp").rename(secret)
    (tmp_path / "p/i/0.bmp").symlink_to(secret)
    (tmp_path / "p/i/2.bmp").symlink_to("1.bmp")
    rows = [row(0, f"i/{name}.bmp", "<image>\nQ", "A") for name in ("0", "1", "2", "3", "4")]
    file.write_text(json.dumps(rows))
    pool = open_pool(file)
    refs = [s.images[0] for s in pool.samples(range(5))]
    assert [bool(r.content) for r in refs] == [False, True, True, False, False]
    assert refs[0].identity.startswith("unread:") and refs[3].identity == "missing:i/3.bmp"
    assert refs[1].identity == refs[2].identity and len({r.identity for r in refs}) == 4
    with pytest.raises(ImageError, match="symbolic link"):
        pool.load_image(refs[0])


def test_remote_images_are_identified_by_content(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    fs = fsspec.filesystem("memory")
    file = write(tmp_path, COLOURS)

    def put(i: int, of: int) -> None:
        fs.pipe_file(f"/identity/i/{i}.bmp", (tmp_path / f"i/{of}.bmp").read_bytes())

    for i in range(5):
        put(i, i)
    store = Store(tmp_path / "store")
    remote = open_pool(file, "memory://identity", cache=store.root / "pools")
    assert remote.digest.tobytes() == open_pool(file).digest.tobytes()
    put(0, 1)
    assert CHANGED in reds(remote, store)[1][0]
    again = open_pool(file, "memory://identity", cache=store.root / "pools")
    assert reds(again, store) == ([0, 0, 0, 90, 10], [""] * 5)
