"""The value of `--image-pixels`, on the command line, in YAML and in Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import thresher
from tests.text_pools import record, write_pool
from thresher.errors import ConfigError
from thresher.fingerprint import fingerprint
from thresher.request.image_pixels import ImagePixels
from thresher.selection.config import combine, read
from thresher.types import ModelIdentity


def test_both_bounds_or_a_maximum() -> None:
    assert ImagePixels.parse("784..2000") == ImagePixels(2000, 784)
    assert ImagePixels.parse(" ..2000") == ImagePixels(2000)
    for text in ("784..2000", "..2000"):
        assert str(ImagePixels.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("abc", "not two whole numbers"),
        ("100..50", "the minimum 100 is above the maximum 50"),
        ("0..", "the maximum is missing"),
        ("0..50", "at least 1"),
        ("..0", "at least 1"),
        ("-5..50", "at least 1"),
        ("1003520", "for a maximum give"),
        ("", "not two whole numbers"),
        ("1e6..2e6", "not two whole numbers"),
        (".." + "9" * 5000, "no image has that many pixels"),
    ],
)
def test_wrong_values_say_what_is_expected(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as raised:
        ImagePixels.parse(text)
    assert "MIN..MAX" in str(raised.value)


def test_it_is_a_key_of_a_config_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("pool: p.json\nbudget: 3\nmethod: random\nimage_pixels: ..2000\n")
    assert combine(read(file), {}).image_pixels == "..2000"
    file.write_text("pool: p.json\nbudget: 3\nmethod: random\nimage_pixels: 2000\n")
    with pytest.raises(ConfigError, match="for a maximum give"):
        combine(read(file), {})


def test_it_is_a_keyword_of_the_api(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "pool.json", [record(i) for i in range(9)])
    with pytest.raises(ConfigError, match="above the maximum"):
        thresher.select(pool, method="random", budget="3", image_pixels="9..3")


def test_bounds_are_part_of_a_models_identity_and_none_changes_nothing() -> None:
    model = ModelIdentity("sha256:1", "llava", "float32", "pil")
    bounded = ModelIdentity("sha256:1", "llava", "float32", "pil", "..2000")
    assert fingerprint(model) == "7bb8a7bdd66dfb424f40e971ced3d9ab"
    assert fingerprint(model) != fingerprint(bounded)
