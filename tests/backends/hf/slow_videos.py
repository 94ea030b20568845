"""Slow reference of scoring rows with videos: the model's own processor with its video path, one
row, one full pass of plain transformers. The processor is the backend's, because one without
torchvision has thresher's frames on Pillow; what is compared is everything behind its pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tests.backends.hf.random_rows import Images
from thresher.pools import videos
from thresher.types import ImageRef, Sample, Turn, Video, VideoRef

FRAMES = 5


class Videos(Images):
    """A pool of synthetic images by number, and of the videos in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def load_image(self, ref: ImageRef) -> Any:
        if isinstance(ref, VideoRef):
            return videos.load(str(self.folder), ref)
        return super().load_image(ref)


def video_row(path: str, question: str, answer: str, *more: Turn) -> Sample:
    """A row as the pool gives it, with a video before its question."""
    turns = (Turn("user", "<image>\n" + question), Turn("assistant", answer), *more)
    return Sample("0", turns, (VideoRef(path=path, frames=FRAMES),))


def video_inputs(
    processor: Any, row: Sample, source: Videos, *, generation_prompt: bool = False
) -> Any:
    """All inputs of the model, as its processor gives them."""
    kinds = ["video" if isinstance(ref, VideoRef) else "image" for ref in row.images]
    loaded = [source.load_image(ref) for ref in row.images]
    images: list[Image.Image] = [x for x in loaded if not isinstance(x, Video)]
    films: list[Video] = [x for x in loaded if isinstance(x, Video)]
    media = iter(kinds)
    messages = []
    for turn in row.turns:
        pieces = turn.text.split("<image>")
        content: list[dict[str, str]] = []
        for i, piece in enumerate(pieces):
            if i:
                content.append({"type": next(media)})
            if text := piece.removeprefix("\n") if i else piece:
                content.append({"type": "text", "text": text})
        messages.append({"role": turn.role, "content": content})
    text = processor.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=generation_prompt
    )
    return processor(
        text=[text],
        images=[images] if images else None,
        videos=[film.frames for film in films],
        video_metadata=[
            {
                "total_num_frames": film.total,
                "fps": film.fps,
                "duration": film.total / film.fps,
                "frames_indices": list(film.indices),
            }
            for film in films
        ],
        do_sample_frames=False,
        return_tensors="pt",
    )


@torch.no_grad()
def reference_video_loss(processor: Any, model: Any, row: Sample, source: Videos) -> float:
    """Mean loss in nats of the tokens of the row's last answer."""
    inputs = video_inputs(processor, row, source)
    ids = inputs["input_ids"][0].tolist()
    prompt = Sample(row.id, row.turns[:-1], row.images)
    front = video_inputs(processor, prompt, source, generation_prompt=True)["input_ids"][0].tolist()
    tokenizer = processor.tokenizer
    if ids[: len(front)] == front:
        start = len(front)
    else:  # the template writes a finished turn unlike its generation prompt
        answer = tokenizer(row.turns[-1].text, add_special_tokens=False)["input_ids"]
        (start,) = [p for p in range(len(ids)) if ids[p : p + len(answer)] == answer]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    end = next(p for p in range(start, len(ids) + 1) if p == len(ids) or ids[p] in special)
    logprobs = model(**inputs).logits[0].float().log_softmax(-1)
    return -float(sum(logprobs[p - 1, ids[p]] for p in range(start, end))) / (end - start)
