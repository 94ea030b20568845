"""`--image-pixels`: each family's own processor under other bounds, against tokens counted by hand,
the slow reference, and plain transformers on a saved folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

from tests.backends.hf.random_rows import Images, ask, collect
from tests.backends.hf.slow_reference import messages_of, reference_rows
from tests.tiny_models import build, picture
from tests.training.colour_pools import pool_of, record
from thresher.backends import ModelHandle, resolve
from thresher.backends.hf import image_budget
from thresher.backends.hf.images import ImagePreparer
from thresher.backends.hf.processor import load_processor
from thresher.errors import ConfigError
from thresher.fingerprint import fingerprint
from thresher.request.image_pixels import ImagePixels
from thresher.training import Recipe, fit

SHAPES = ((64, 64), (300, 100), (600, 800))  # width, height


def bounded(name: str, text: str) -> ModelHandle:
    return resolve(str(build(name)), device="cpu", image_pixels=ImagePixels.parse(text))


def tokens(handle: ModelHandle) -> list[int]:
    assert handle.image_tokens is not None
    return handle.image_tokens([picture(*shape) for shape in SHAPES])


BY_HAND = [
    # 28 x 28 pixels a token: 2 x 2, 1 x 3, 1 x 2 of them are the largest of these shapes
    ("qwen2_5_vl", "..3136", [4, 3, 2]),
    ("qwen2_5_vl", "10000..20000", [16, 16, 20]),
    # tiles of 56 x 56 with 4 tokens each, an overview where there are several, 2 tokens around
    ("internvl", "..6272", [6, 2 + 3 * 4, 2 + 3 * 4]),
    ("internvl", "..3136", [6, 6, 6]),
    ("internvl", "9408..9408", [2 + 4 * 4, 2 + 4 * 4, 2 + 4 * 4]),
    # one tile of 4 tokens, and the words around it
    ("smolvlm", "..3136", [7, 7, 7]),
    ("smolvlm", "..12543", [7, 7, 7]),
    ("aya_vision", "..3136", [7, 7, 7]),
]


@pytest.mark.parametrize(("name", "text", "expected"), BY_HAND)
def test_tokens_counted_by_hand(name: str, text: str, expected: list[int]) -> None:
    assert tokens(bounded(name, text)) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("qwen2_5_vl", "784..4000"),
        ("internvl", "3136..6272"),
        ("smolvlm", "..3136"),
        ("llava_next", "..6272"),
        ("llava_onevision", "..6272"),
        ("gemma4", "..80000"),
    ],
)
def test_losses_are_the_references_and_a_saved_processor_gives_the_same_tokens(
    name: str, text: str, tmp_path: Path
) -> None:
    handle = bounded(name, text)
    backend = handle.open()
    folder = tmp_path / name  # as `thresher train --merge` writes it
    shutil.copytree(build(name), folder)
    backend.forward.model.config.save_pretrained(folder)
    unbounded, _ = load_processor(folder)
    image_budget.write_budget(
        folder, image_budget.set_budget(unbounded, ImagePixels.parse(text), name)
    )
    processor, _ = load_processor(folder)
    assert tokens(resolve(str(folder), device="cpu")) == tokens(handle)
    model = tf.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    rows = [ask("What is it?", "A cat, red.", "1"), ask("Which is larger?", "7 of 30", "3", "4")]
    values, errors = collect(backend.answer_loss(rows, Images()), len(rows))
    assert not errors
    for i, row in enumerate(rows):
        images = [Images().load_image(ref) for ref in row.images]
        want = reference_rows(processor, model, messages_of(row), images)
        assert values["nll"][i] == pytest.approx(want["nll"], abs=1e-5)


def test_pixtral_is_bounded_by_its_longest_side() -> None:
    images = PixtralImageProcessorPil(
        size={"longest_edge": 112}, patch_size={"height": 14, "width": 14}
    )
    processor: Any = SimpleNamespace(image_processor=images, patch_size=14, spatial_merge_size=2)
    for most, side in ((3136, 56), (5000, 56), (10**9, 112), (784, 28)):
        changed = image_budget._side(processor, 112, ImagePixels(most))
        assert changed == {"size": {"longest_edge": side}}
        for shape in (*SHAPES, (31, 500)):
            out = images(Image.new("RGB", shape), size=changed["size"], return_tensors="pt")
            assert np.prod(out["pixel_values"].shape[-2:]) <= most
    with pytest.raises(image_budget._CannotBound, match="smallest image is 784 pixels"):
        image_budget._side(processor, 112, ImagePixels(700))


def test_glm_counts_an_image_as_the_frames_of_a_patch() -> None:
    images = Glm4vImageProcessorPil()
    size = image_budget._area(images, dict(images.size), ImagePixels(100_000, 50_000))["size"]
    assert size == {"shortest_edge": 2 * 50_000, "longest_edge": 2 * 100_000}
    for shape in SHAPES:
        out = images(Image.new("RGB", shape), size=size, return_tensors="pt")
        assert 50_000 <= out["image_grid_thw"][0].prod() * 14 * 14 <= 100_000


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gemma3", "..1000", "its images always cost 6 tokens"),
        ("llava", "..1000", "its images always cost 16 tokens"),
        ("mllama", "..9999", "an embedding for each arrangement of its tiles"),
        ("qwen2_5_vl", "..700", "a token of an image is 784 pixels"),
        ("internvl", "..100", "one of its tiles is 3,136 pixels"),
        ("internvl", "3137..6271", "no whole number of them lies between"),
        ("internvl", "..99999999", "give a maximum of at most 1,605,632"),
        ("smolvlm", "3136..9999", "no minimum. Give ..9999 alone"),
        ("llava_next", "..1000", "3 grids of 6,272 to 12,544 pixels"),
        ("gemma4", "..1", "at least 71,680"),
    ],
)
def test_what_cannot_be_bounded_is_refused_before_weights_are_read(
    name: str, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        bounded(name, text)
    assert raised.value.option == "image_pixels"


def test_a_server_is_refused() -> None:
    with pytest.raises(ConfigError, match="image_side"):
        resolve("http://127.0.0.1:9/v1#m", image_pixels=ImagePixels(2000))


@pytest.mark.parametrize(
    ("name", "text", "merge"),
    [
        ("qwen2_5_vl", "784..1568", False),
        ("internvl", "..3136", True),
        ("llava_next", "..6272", True),
    ],
)
def test_a_trained_model_keeps_the_bounds(
    name: str, text: str, merge: bool, tmp_path: Path
) -> None:
    pool = pool_of(tmp_path / "pool", [record(i) for i in range(6)])
    recipe, bounds = Recipe(steps=2, batch=3), ImagePixels.parse(text)
    out = tmp_path / "m"
    how: dict[str, Any] = {"device": "cpu", "merge": merge}
    trained = fit(str(build(name)), pool, None, recipe, out, image_pixels=bounds, **how)
    assert trained.steps == 2
    handle = resolve(str(out), device="cpu")
    assert tokens(handle) == tokens(bounded(name, text)) != tokens(resolve(str(build(name))))
    if not merge:  # the adapters' files do not differ by it, so it is part of the identity
        assert handle.identity.image_pixels == text
    (tmp_path / "processor").mkdir()
    for file in (*out.glob("*.json"), *out.glob("*.jinja")):  # as plain transformers loads it
        shutil.copyfile(file, tmp_path / "processor" / file.name)
    shutil.copyfile(build(name) / "config.json", tmp_path / "processor" / "config.json")
    processor, _ = load_processor(tmp_path / "processor")
    preparer = ImagePreparer(processor, processor.image_token)
    counted = [len(preparer.prepare(picture(*s), False).expansion) for s in SHAPES]
    assert counted == tokens(handle)
    with pytest.raises(ConfigError, match="another trained model"):
        fit(str(build(name)), pool, None, recipe, out, **how)


def test_scores_of_other_bounds_are_other_scores() -> None:
    plain, small = resolve(str(build("internvl")), device="cpu"), bounded("internvl", "..3136")
    assert fingerprint(plain.identity) != fingerprint(small.identity)
    row = [ask("What is it?", "A cat, red.", "1")]
    a, b = (collect(h.open().answer_loss(row, Images()), 1)[0]["nll"] for h in (plain, small))
    assert a != b
