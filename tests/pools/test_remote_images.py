"""Images at an address whose server is away for a while: no row fails because of that."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.text_pools import record, write_pool
from thresher.errors import ImageError, Notice, PoolError
from thresher.pools import Pool, open_pool
from thresher.storage import retries

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Pool]:
    """Opens a pool of one row whose image is at an address."""
    monkeypatch.setattr(retries, "GIVE_UP", 0.1)
    monkeypatch.setattr(retries, "MAX_WAIT", 0.01)
    address = f"memory://{uuid.uuid4().hex}"
    Image.new("RGB", (24, 16), (9, 0, 0)).save(tmp_path / "i.png")
    fsspec.filesystem("memory").put(str(tmp_path / "i.png"), f"{address}/i.png")
    file = write_pool(tmp_path / "pool.json", [record(1, "i.png")])
    return lambda: open_pool(file, address)


def away(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, times: float) -> None:
    """A request of the memory file system fails so many times."""
    kind, failed = type(fsspec.filesystem("memory")), []  # each thread has its own object
    work = getattr(kind, name)

    def request(*given: Any, **options: Any) -> Any:
        if len(failed) < times:
            failed.append(name)
            raise error
        return work(*given, **options)

    monkeypatch.setattr(kind, name, request)


@pytest.mark.parametrize("name", ["find", "cat_file"])
def test_a_short_absence_is_waited_for(
    opened: Callable[[], Pool], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    away(monkeypatch, name, ConnectionError("refused"), 2)
    with pytest.warns(Notice, match=r"memory://.* does not answer .refused.\. Trying again"):
        pool = opened()
    assert pool.digest.tolist() == opened().digest.tolist()
    assert not pool.facts["missing_images"].any()
    assert pool.load_image(pool.sample(0).images[0]).size == (24, 16)


@pytest.mark.parametrize("name", ["find", "cat_file"])
def test_a_long_absence_ends_the_run_instead_of_its_rows(
    opened: Callable[[], Pool], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as patch:
        away(patch, name, ConnectionError("refused"), 1e9)
        with pytest.warns(Notice), pytest.raises(PoolError, match="does not answer: refused"):
            opened()
    pool = opened()
    away(monkeypatch, "cat_file", ConnectionError("refused"), 1e9)
    with pytest.warns(Notice), pytest.raises(PoolError, match="run the same command again"):
        pool.load_image(pool.sample(0).images[0])


def test_a_missing_image_is_named_with_its_address(opened: Callable[[], Pool]) -> None:
    there = opened()
    Path(there.path).write_text(Path(there.path).read_text().replace("i.png", "absent.png"))
    (reason,) = opened().missing_image_reasons([0])
    assert "absent.png: no such image in memory://" in reason


def test_an_image_that_may_not_be_read_is_a_failure_of_its_row(
    opened: Callable[[], Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = opened()
    away(monkeypatch, "cat_file", PermissionError("Access Denied"), 1e9)
    with pytest.raises(ImageError, match=r"cannot be read from memory://.*: Access Denied"):
        pool.load_image(pool.sample(0).images[0])
