"""What a model is: a hash of its files, remembered where that is possible."""

from __future__ import annotations

from pathlib import Path

import pytest

from thresher.backends.identity import find


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llava"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def weights(model: Path, cache: Path | None) -> str:
    return find(str(model), False, cache).weights


def test_a_hash_is_remembered_until_the_files_change(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "store" / "models"
    plain = weights(model, None)
    assert weights(model, cache) == plain
    (kept,) = cache.iterdir()
    kept.write_text("0" * 64)
    assert weights(model, cache) == "sha256:" + "0" * 64  # it is read
    (model / "model.safetensors").write_bytes(b"other weights")
    assert weights(model, cache) == weights(model, None) != plain


@pytest.mark.parametrize("content", [b"", b"0" * 63, b"z" * 64, b"\xff" * 64])
def test_a_damaged_memory_is_not_believed(model: Path, tmp_path: Path, content: bytes) -> None:
    weights(model, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(content)
    assert weights(model, tmp_path / "cache") == weights(model, None)
    assert kept.read_text() == weights(model, None).removeprefix("sha256:")  # and repaired


def test_where_nothing_can_be_remembered_the_model_is_still_known(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    assert weights(model, tmp_path / "file" / "models") == weights(model, None)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert weights(model, tmp_path / "cache") == weights(model, None)
    assert list((tmp_path / "cache").iterdir()) == []
