"""Videos for a multimodal LLM: whether a model takes them, and their frames as its input.

A video is prepared by the model's own processor, which writes its tokens, timestamps and frame
headings, and is handled as an image is: a `PreparedImage` whose tokens replace one placeholder.
When a model meets its first video, a row with a synthetic one is compared with the processor's own
path and one ordinary pass, as is done for images when a model is opened; a model that takes no
videos, or whose numbers differ, gives every row with a video that reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.images import PreparedImage, video_metadata
from thresher.backends.hf.processor import NoVideo
from thresher.backends.hf.template import RenderError
from thresher.backends.hf.video_pil import pil_video_processor
from thresher.errors import named_reason
from thresher.types import ImageRef, RowError, Sample, Turn, Video, VideoRef

KIND = "video"  # of the error of a row whose video a model does not take
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}


class VideoSupport:
    """How a model takes videos.

    pipeline: the `BlockPipeline` of the model.
    problem: why it does not, as a row's error; "": it does.
    """

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.problem = ""
        reason = self._missing()
        self.problem = str(RowError(KIND, reason)) if reason else ""

    def check(self) -> None:
        """Compare a row with a video with the model's own processor and one ordinary pass; sets
        `problem`. Not in the thread of `BlockPipeline.prepare`'s image workers."""
        try:
            reason = _difference(self.pipeline)
        except Exception as e:  # noqa: BLE001 - whatever an architecture's own code raises
            reason = f"this model's code fails on videos ({named_reason(e)})"
        if reason:
            self.problem = str(RowError(KIND, reason))

    def prepare(self, video: Video) -> PreparedImage:
        """Raises ValueError, ZeroDivisionError for a shape that the processor refuses."""
        return self.pipeline.preparer.prepare_video(video, self.pipeline.encoder.video_token or "")

    def _missing(self) -> str:
        """What the model lacks to take a video; "": nothing that is known before one is tried.
        Replaces a `NoVideo` of its processor."""
        name = self.pipeline.forward.model.config.model_type
        return missing_support(self.pipeline.encoder.processor, name)


def missing_support(processor: Any, name: str) -> str:
    """What a model's processor lacks to take a video; "": nothing that is known before one is
    tried. Replaces a `NoVideo` of the processor.

    Arguments:
        processor: of the model.
        name: its architecture, for the message.
    """
    token = getattr(processor, "video_token", None)
    if token is None or not hasattr(processor, "video_processor"):
        return f"this model ({name}) takes no videos"
    present = processor.video_processor
    if isinstance(present, NoVideo):
        found = pil_video_processor(present.source, present.revision)
        if found is None:
            return (
                f"the video processor of this model ({name}) needs the package torchvision, "
                "which is not installed"
            )
        processor.video_processor = found
    return ""


def official_inputs(processor: Any, text: str, video: Video) -> Any:
    """What a model's processor gives for a rendered conversation with one video.

    Arguments:
        processor: of the model.
        text: the conversation with one video placeholder.
        video: its sampled frames.
    """
    bos = processor.tokenizer.bos_token
    return processor(
        text=[text],
        videos=[video.frames],
        video_metadata=[video_metadata(video)],
        do_sample_frames=False,
        return_tensors="pt",
        add_special_tokens=not (bos and text.startswith(bos)),
    )


class _Probe:
    """A pool of one synthetic video."""

    def load_image(self, ref: ImageRef) -> Video:
        values = np.arange(4 * 96 * 64 * 3, dtype=np.uint32).reshape(4, 96, 64, 3)
        return Video((values * 7919 % 251).astype(np.uint8), (0, 10, 20, 29), 30, 10.0)

    def by_digest(self, digest: bytes) -> Sample:
        raise KeyError(digest)


@torch.inference_mode()
def _difference(pipeline: Any) -> str:
    """In what the model's rows with a video differ from its own processor; "": in nothing."""
    turns = (Turn("user", "<image>\nWhat happens?"), Turn("assistant", "It turns red."))
    row, pool = Sample('"probe"', turns, (VideoRef(path="probe", frames=4),)), _Probe()
    conv = conversation(row)
    try:
        text = pipeline.encoder.official_text(conv)
    except RenderError as e:
        return RowError.parse(str(e)).detail
    block = pipeline.prepare([conv], range(1), pool, False)
    if block.errors:
        return RowError.parse(block.errors[0]).detail or block.errors[0]
    inputs = official_inputs(pipeline.encoder.processor, text, pool.load_image(row.images[0]))
    ids = inputs["input_ids"][0].numpy()
    if not np.array_equal(ids, block.rows[0].ids):
        return (
            f"thresher's encoding of a video differs from the model's own processor "
            f"({len(block.rows[0].ids)} instead of {len(ids)} tokens)"
        )
    answer = torch.from_numpy(block.rows[0].answer_positions)
    features = pipeline.features(block)
    loss = next(iter(pipeline.forward.losses(block.rows, features)))[1][0]
    model = pipeline.forward.model
    moved = {
        k: v.to(model.device, model.dtype if v.is_floating_point() else None)
        for k, v in inputs.items()
        if isinstance(v, torch.Tensor)
    }
    logprobs = model(**moved).logits[0].float().log_softmax(-1)  # (tokens, vocabulary)
    answer = answer.to(model.device)
    expected = -float(logprobs[answer - 1, moved["input_ids"][0][answer]].mean())
    if isinstance(loss, str):
        return loss
    if abs(loss.nll - expected) > TOLERANCE.get(model.dtype, 0.1):
        return f"the loss of a row with a video is {loss.nll} instead of {expected}"
    return ""
