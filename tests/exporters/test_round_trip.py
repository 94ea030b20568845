"""Every reader with every exporter: the samples round-trip, with the same digests if images keep
their kind."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.exporters.pools_by_format import EXPORTERS, NOT_ALL, POOLS, READERS, make_images, start
from thresher.errors import ImageError
from thresher.exporters import export
from thresher.pools import Pool, open_pool
from thresher.types import digests_to_bytes

_count = itertools.count()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


def content(pool: Pool) -> list[Any]:
    """The content of a sample, with the bytes of its images in place of their names."""

    def read(ref: Any) -> Any:
        try:
            return pool.image_bytes(ref)
        except ImageError:
            return "missing"

    return [
        (s.id, s.turns, [read(i) for i in s.images], s.source, s.problem)
        for s in pool.samples(range(len(pool)))
    ]


def reopened(path: Path, images: Path, before: Pool) -> Pool:
    """The export, with the image folder that its notes tell: its own where images were written
    out."""
    own = path.parent / "pool_images"
    if own.is_dir() and not before.index.embedded.all():
        return open_pool(path, "/")  # both kinds: absolute paths
    return open_pool(path, path.parent if own.is_dir() else images)


PATIENT = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("reader", READERS)
@settings(PATIENT, max_examples=2)
@given(rows=POOLS)
def test_every_format_round_trips(
    reader: str, images: Path, work: Path, rows: list[dict[str, Any]]
) -> None:
    check_round_trips(reader, images, work, rows)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
@settings(PATIENT, max_examples=20)
@given(rows=POOLS)
def test_every_exporter_gives_back_what_was_read_of_many_pools(
    reader: str, images: Path, work: Path, rows: list[dict[str, Any]]
) -> None:
    check_round_trips(reader, images, work, rows)


def check_round_trips(reader: str, images: Path, work: Path, rows: list[dict[str, Any]]) -> None:
    if reader == "datasets folder":  # `save_to_disk` itself stops at an image that is not there
        rows = [r for r in rows if "missing.png" not in r.get("image", [])]
    folder = work / str(next(_count))
    first = start(folder / "start", rows, images)
    path = READERS[reader](folder / "in", first)
    pool = open_pool(path, images)
    if reader not in NOT_ALL:
        assert content(pool) == content(first)
    assert [s.digest for s in pool.samples(range(len(pool)))] == digests_to_bytes(pool.digest)
    was = content(pool)
    for name, (format, file, options) in EXPORTERS.items():
        out = folder / name / file
        export(pool, range(len(pool)), out, format, options)
        again = reopened(out, images, pool)
        assert content(again) == was, name
        paths = not pool.index.embedded.any() and not again.index.embedded.any()
        if paths or (pool.index.embedded.all() and again.index.embedded.all()):
            assert digests_to_bytes(again.digest) == digests_to_bytes(pool.digest), name
            assert again.samples(range(len(again))) == pool.samples(range(len(pool))), name
