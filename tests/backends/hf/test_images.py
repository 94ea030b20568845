"""Image features are passed to a model in the output class of its own vision code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.utils import ModelOutput

from tests.backends.hf.opened_backends import opened
from tests.backends.hf.random_rows import Images, ask, collect
from tests.tiny_models import build, load
from thresher.backends import resolve
from thresher.backends.hf.encode import Encoder
from thresher.backends.hf.images import ImageFeatures, ImagePreparer, PreparedImage, Vision


@pytest.mark.parametrize("architecture", ["llava", "qwen2_5_vl", "qwen3_vl"])
def test_encoder_outputs_have_the_models_class(architecture: str) -> None:
    tiny = load(architecture)
    vision = Vision(tiny.model, tiny.model.device, tiny.model.dtype)
    preparer = ImagePreparer(tiny.processor, Encoder(tiny.processor).image_token)
    displayed = [
        preparer.prepare(Image.new("RGB", (64, 64), colour), False) for colour in ("red", "blue")
    ]
    own = tiny.model.get_image_features(
        **{name: value for name, value in displayed[0].inputs.items() if name in vision.accepts},
        return_dict=True,
    )
    features = vision.features(displayed)
    output = vision.as_encoder_output(features)["image"]
    assert isinstance(output, ModelOutput) and type(output) is type(own)
    assert bool(features[0].deep) == (architecture == "qwen3_vl")
    assert len(output.to_tuple()) == 1 + bool(features[0].deep)
    pooled = output.pooler_output
    rows = pooled if isinstance(pooled, torch.Tensor) else torch.cat(list(pooled))
    assert torch.equal(rows, torch.cat([f.main for f in features]))


def test_default_output_class_before_the_first_image() -> None:
    model = load("llava").model
    output = Vision(model, model.device, model.dtype).as_encoder_output(
        [ImageFeatures(torch.zeros(4, 8))]
    )["image"]
    assert isinstance(output, ModelOutput) and len(output.to_tuple()) == 1


@pytest.mark.parametrize("fault", ["raises", "differs"])
def test_images_that_cannot_share_a_call_run_one_by_one(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Vision.encode

    def one_at_a_time(self: Vision, images: Sequence[PreparedImage]) -> list[ImageFeatures]:
        if len(images) == 1:
            return encode(self, images)
        if fault == "raises":
            raise RuntimeError("Sizes of tensors must match except in dimension 0.")
        return [ImageFeatures(f.main * 1.1, f.deep) for f in encode(self, images)]

    rows = [ask("What is it?", "A cat.", "1"), ask("How many?", "Two.", "2")]
    expected, _ = collect(opened("llava").answer_loss(rows, Images()), 2)
    monkeypatch.setattr(Vision, "encode", one_at_a_time)
    backend = resolve(str(build("llava"))).open()
    assert not backend.forward.vision.together and opened("llava").forward.vision.together
    result, errors = collect(backend.answer_loss(rows, Images()), 2)
    assert not errors and np.allclose(result["nll"], expected["nll"], atol=1e-5)
