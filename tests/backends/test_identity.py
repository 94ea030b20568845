"""Identity of a model: a hash of its files, cached if possible."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from thresher.backends.identity import find
from thresher.storage import hashing


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llava"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def weights(model: Path, cache: Path | None) -> str:
    return find(str(model), False, cache).weights


def test_hash_is_cached_until_the_files_change(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "store" / "models"
    plain = weights(model, None)
    assert weights(model, cache) == weights(model, cache) == plain
    (model / "model.safetensors").write_bytes(b"other weights")
    assert weights(model, cache) == weights(model, None) != plain


def large(fill: bytes) -> bytes:
    return fill * (hashing.WHOLE + 1)


@pytest.mark.parametrize("made", [lambda fill: fill * 7, large], ids=["small", "large"])
@pytest.mark.parametrize("how", ["in place", "cp -p", "mv"])
def test_replaced_weights_of_equal_size_and_time_are_detected(
    model: Path, tmp_path: Path, how: str, made: Callable[[bytes], bytes]
) -> None:
    file, other = model / "model.safetensors", tmp_path / "other"
    file.write_bytes(made(b"a"))
    before = file.stat()
    time.sleep(0.05)  # else the file is too new to be remembered
    old = weights(model, tmp_path / "cache")
    other.write_bytes(made(b"b"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    if how == "in place":
        file.write_bytes(other.read_bytes())
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif how == "cp -p":
        shutil.copy2(other, file)
    else:
        os.replace(other, file)
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert weights(model, tmp_path / "cache") == weights(model, None) != old


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer_config.json", '{"chat_template": "x"}'),
        ("additional_chat_templates/default.jinja", "x"),
        ("chat_template.jinja", "x"),
        ("parts/model-1.safetensors", "x"),
    ],
)
def test_every_file_that_is_read_is_part_of_the_identity(model: Path, name: str, text: str) -> None:
    """Also what lies in its folders: named templates, and weights that an index names."""
    index = {"weight_map": {"a": "model.safetensors", "b": "parts/model-1.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    (model / name).parent.mkdir(exist_ok=True)
    seen = {weights(model, None)}
    for content_of_file in (text, text.upper()):
        (model / name).write_text(content_of_file)
        seen.add(weights(model, None))
    assert len(seen) == 3


@pytest.mark.parametrize("damage", [b"", b"0" * 63, b"\xff" * 64])
def test_damaged_hash_cache_is_ignored(model: Path, tmp_path: Path, damage: bytes) -> None:
    time.sleep(0.05)
    weights(model, tmp_path / "cache")
    kept = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert kept
    for file in kept:
        file.write_bytes(damage)
    assert weights(model, tmp_path / "cache") == weights(model, None)


def test_identity_works_without_a_writable_cache(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    assert weights(model, tmp_path / "file" / "models") == weights(model, None)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert weights(model, tmp_path / "cache") == weights(model, None)
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == []
