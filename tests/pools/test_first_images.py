"""`Pool.first_images`: the identity of each row's first image, from the index alone."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thresher.pools import Pool, open_pool


def png(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


def row(i: int, images: list[str]) -> dict[str, object]:
    return {
        "id": i,
        "image": images,
        "conversations": [
            {"from": "human", "value": "<image>" * len(images) + f"Question {i}?"},
            {"from": "gpt", "value": "Yes."},
        ],
    }


@pytest.fixture(params=[False, True], ids=["content", "trust-paths"])
def pool(request: pytest.FixtureRequest, tmp_path: Path) -> Pool:
    for name, shade in (("a.png", 1), ("b.png", 2), ("copy_of_a.png", 1)):
        (tmp_path / name).write_bytes(png(shade))
    embedded = "data:image/png;base64," + base64.b64encode(png(1)).decode()
    rows = [
        row(0, ["b.png", "a.png"]),
        row(1, []),
        row(2, ["copy_of_a.png"]),
        row(3, [embedded, "b.png"]),
        row(4, ["missing.png"]),
        {"id": 5, "conversations": "broken"},
        row(6, ["a.png"]),
    ]
    (tmp_path / "pool.json").write_text(json.dumps(rows))
    return open_pool(tmp_path / "pool.json", trust_paths=request.param)


def test_first_images_equal_those_of_parsed_rows(pool: Pool) -> None:
    rows = np.array([6, 0, 3, 1, 5, 2, 4, 0], np.int64)
    expected = [s.images[0].identity if s.images else "" for s in pool.samples(rows)]
    assert pool.first_images(rows) == expected
    assert expected.count("") == 2 and any(e.startswith("missing:") for e in expected)


def test_no_record_is_read(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("a record was read")

    monkeypatch.setattr(Pool, "record_and_sample", read)
    monkeypatch.setattr(Pool, "_record_and_sample", read)
    assert len(pool.first_images(np.arange(len(pool)))) == len(pool)
    assert pool.first_images(np.zeros(0, np.int64)) == []
