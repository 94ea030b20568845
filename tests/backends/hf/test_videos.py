"""Rows with videos against plain transformers with the processor's own video path."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.backends.hf.opened_backends import borrowed, opened
from tests.backends.hf.random_rows import Images, ask, collect
from tests.backends.hf.slow_videos import (
    FRAMES,
    Videos,
    reference_video_loss,
    video_inputs,
    video_row,
)
from tests.model_families import families
from tests.tiny_models import build, load
from tests.tiny_videos import write_video
from thresher.backends import resolve
from thresher.backends.hf.backend import HFBackend
from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.training_loss import AnswerLossFn, Targets
from thresher.backends.hf.traits import stop_tokens
from thresher.backends.hf.video_pil import pil_video_processor
from thresher.signals.query import Query, judge_prompt
from thresher.types import Sample, Turn, Video, VideoRef

pytest.importorskip("av", reason="PyAV is not installed")
TAKE_VIDEOS = (
    *("qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl", "smolvlm"),
    *("qwen2_vl", "qwen3_5", "qwen3_vl_moe", "qwen3_5_moe"),
)
ALWAYS = ("qwen2_5_vl", "smolvlm")  # features of videos of their own; frames as images
QUERIES = (
    Query("\nHow good is it, 0 to 5?", ("0", "3", "5")),
    Query("\nWhich style?", ("short description", "yes/no"), whole=True, end=False),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Videos:
    """Videos of several lengths and shapes."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "long.mp4", 24, seed=1)
    write_video(folder / "short.mp4", 3, seed=2)
    write_video(folder / "tall.mp4", 11, seed=3, width=48, height=112)
    (folder / "broken.mp4").write_bytes((folder / "long.mp4").read_bytes()[:700])
    return Videos(folder)


@pytest.fixture(scope="module", params=families(TAKE_VIDEOS, ALWAYS))
def backend(request: pytest.FixtureRequest) -> HFBackend:
    torch.set_num_threads(1)
    return opened(request.param)


ROWS = [
    video_row("long.mp4", "What happens?", "It turns red."),
    video_row("short.mp4", "What happens?", "A cat, it jumps."),
    video_row(
        "tall.mp4", "How many times?", "Twice", Turn("user", "Sure?"), Turn("assistant", "Yes")
    ),
    ask("What is it?", "A red cat.", "1"),
    ask("Is ice cold?", "Yes."),
]


def name_of(backend: HFBackend) -> str:
    return Path(backend.encoder.processor.tokenizer.name_or_path).name.removesuffix("-tiny")


def test_losses_are_those_of_plain_transformers(backend: HFBackend, source: Videos) -> None:
    got, errors = collect(backend.answer_loss(ROWS, source), len(ROWS))
    assert not errors
    model = load(name_of(backend)).model
    for i, row in enumerate(ROWS[:2]):
        want = reference_video_loss(backend.encoder.processor, model, row, source)
        assert got["nll"][i] == pytest.approx(want, abs=1e-5)
    alone, _ = collect(backend.answer_loss([ROWS[2]], source), 1)
    assert alone["nll"][0] == got["nll"][2], "a row does not depend on its batch"


def test_the_frames_matter_and_their_order_too(backend: HFBackend, source: Videos) -> None:
    video = source.load_image(VideoRef(path="long.mp4", frames=FRAMES))

    class One(Images):
        def __init__(self, shown: Video) -> None:
            super().__init__()
            self.shown = shown

        def load_image(self, ref: Any) -> Any:
            return self.shown

    flipped = Video(video.frames[::-1].copy(), video.indices, video.total, video.fps)
    losses = [
        collect(backend.answer_loss(ROWS[:1], One(shown)), 1)[0]["nll"][0]
        for shown in (video, flipped)
    ]
    assert abs(losses[0] - losses[1]) > 1e-4


def test_demonstrations_questions_and_answers(backend: HFBackend, source: Videos) -> None:
    """The fast ways, with a video as demonstration and as query, against whole sequences."""
    pairs = [(q, d) for d, q in itertools.permutations([ROWS[0], ROWS[1], ROWS[3]], 2)]
    queries, demos = [q for q, _ in pairs], [d for _, d in pairs]
    fast, errors = collect(backend.one_shot(queries, demos, source), len(pairs))
    assert not errors
    judged = [judge_prompt(row, "Be brief.") for row in ROWS[:2]]
    said, _ = collect(backend.generate(ROWS[:2] * 2, source, 5), 4)
    with borrowed(name_of(backend)) as slow:
        asked = [piece.values["logprob"] for piece in slow.ask(judged, QUERIES, source)]
        slow.forward.reuses_prefix, slow.forward.query_mode = False, "full"
        whole, _ = collect(slow.one_shot(queries, demos, source), len(pairs))
        full = [piece.values["logprob"] for piece in slow.ask(judged, QUERIES, source)]
    # where two experts are as likely, rounding decides between them
    close = 1e-3 if name_of(backend).endswith("_moe") else 1e-5
    np.testing.assert_allclose(fast["nll"], whole["nll"], atol=close, rtol=0)
    np.testing.assert_allclose(np.vstack(asked), np.vstack(full), atol=1e-4, rtol=0)
    tiny = load(name_of(backend))
    stops = sorted(stop_tokens(backend.forward.model, backend.encoder))
    for i, row in enumerate(ROWS[:2]):
        prompt = Sample(row.id, row.turns[:1], row.images)
        inputs = video_inputs(backend.encoder.processor, prompt, source, generation_prompt=True)
        with torch.no_grad():
            out = tiny.model.generate(
                **inputs, max_new_tokens=5, do_sample=False, eos_token_id=stops
            )
        new = [t for t in out[0, inputs["input_ids"].shape[1] :].tolist() if t not in stops]
        text = tiny.processor.tokenizer.decode(new, skip_special_tokens=True).strip()
        assert said["text"][i] == said["text"][i + 2] == text


def test_a_video_and_an_image_in_one_row(source: Videos) -> None:
    backend = opened("qwen2_5_vl")
    image = ask("?", "x", "2").images[0]
    turns = (Turn("user", "<image>\nThen <image> what?"), Turn("assistant", "It is so."))
    for media in (
        (VideoRef(path="long.mp4", frames=4), image),
        (image, VideoRef(path="tall.mp4", frames=3)),
    ):
        row = Sample("0", turns, media)
        got, errors = collect(backend.answer_loss([row], source), 1)
        assert not errors
        model = load("qwen2_5_vl").model
        want = reference_video_loss(backend.encoder.processor, model, row, source)
        assert got["nll"][0] == pytest.approx(want, abs=1e-5)


def test_the_training_loss_is_the_scored_loss(source: Videos) -> None:
    backend = opened("qwen2_5_vl")
    got, _ = collect(backend.answer_loss(ROWS[:2], source), 2)
    block = backend.prepare([conversation(r) for r in ROWS[:2]], range(2), source, False)
    loss = AnswerLossFn(backend)
    answers = []
    for row in block.rows:
        targets = loss.ends.targets(row)
        inside = np.isin(targets.position, row.answer_positions - 1)
        answers.append(Targets(targets.position[inside], targets.token[inside]))
    total = float(loss.loss(backend.forward.model, block.rows, answers, block.images))
    assert total == pytest.approx(float((got["nll"] * got["tokens"]).sum()), rel=2e-5)


def test_damaged_and_missing_videos_are_failures_of_their_rows(source: Videos) -> None:
    rows = [
        video_row("broken.mp4", "What?", "Yes."),
        ROWS[0],
        video_row("gone.mp4", "What?", "Yes."),
        video_row("../secret.mp4", "What?", "Yes."),
    ]
    got, errors = collect(opened("qwen2_5_vl").answer_loss(rows, source), len(rows))
    assert sorted(errors) == [0, 2, 3] and np.isfinite(got["nll"][1])
    assert errors[0].startswith("bad-video: broken.mp4: cannot be decoded as a video")
    assert errors[2].startswith("missing-video: gone.mp4: no such video in ")
    assert errors[3].startswith("bad-video: ")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("llava", "video: this model (llava) takes no videos"),
        ("mllama", "video: this model (mllama) takes no videos"),
    ],
)
def test_other_families_say_so(name: str, reason: str, source: Videos) -> None:
    got, errors = collect(opened(name).answer_loss(ROWS, source), len(ROWS))
    assert {errors[i] for i in (0, 1, 2)} == {reason}
    assert np.isfinite(got["nll"][3:]).all()


def test_a_template_without_a_place_for_videos(source: Videos) -> None:
    backend = resolve(str(build("internvl"))).open()
    template = backend.encoder.processor.chat_template
    without = template.replace("part['type'] == 'video'", "part['type'] == 'film'")
    assert without != template
    backend.encoder.processor.chat_template = without
    backend = type(backend)(
        backend.forward,
        type(backend.encoder)(backend.encoder.processor),
        backend.preparer,
        backend.context,
        backend.shrinks_images,
    )
    _, errors = collect(backend.answer_loss(ROWS[:1], source), 1)
    assert errors[0] == "video: the model's chat template has places for 0 of the row's 1 videos"


def test_wrong_positions_are_noticed_on_the_first_video(
    source: Videos, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = resolve(str(build("qwen2_5_vl"))).open()
    real = backend.forward.rope_index
    assert real is not None

    def without_seconds(*args: Any, second_per_grid_ts: Any = None, **kwargs: Any) -> Any:
        return real(*args, **kwargs)

    monkeypatch.setattr(backend.forward, "rope_index", without_seconds)
    _, errors = collect(backend.answer_loss(ROWS[:1], source), 1)
    assert errors[0].startswith("video: the loss of a row with a video is ")


# ------------------------------------------------------------------------------- frames on Pillow


def test_a_still_video_has_the_patches_of_the_image() -> None:
    """Qwen's image processor writes an image as a pair of equal frames."""
    processor = load("qwen2_5_vl").processor
    frame = np.random.default_rng(0).integers(0, 255, (56, 84, 3)).astype(np.uint8)
    image = processor.image_processor([frame], return_tensors="pt", do_resize=False)
    own = pil_video_processor(str(build("qwen2_5_vl")), None)
    assert own is not None
    video = own([np.stack([frame, frame])])
    assert video["video_grid_thw"].tolist() == image["image_grid_thw"].tolist()
    torch.testing.assert_close(video["pixel_values_videos"], image["pixel_values"])


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("name", TAKE_VIDEOS[:7])
def test_frames_on_pillow_are_those_of_torchvision(name: str, frames: int) -> None:
    """The same shapes, and pixels that differ as the two libraries resize."""
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    from transformers import AutoVideoProcessor

    video = np.random.default_rng(1).integers(0, 255, (4, 5, 3)).astype(np.uint8)
    video = video.repeat(20, axis=0).repeat(24, axis=1)[None].repeat(frames, axis=0)
    official = AutoVideoProcessor.from_pretrained(build(name))
    own = pil_video_processor(str(build(name)), None)
    assert own is not None
    try:
        want = official([video], return_tensors="pt", do_sample_frames=False)
    except ValueError:  # one frame, where two are a patch
        with pytest.raises(ValueError, match="1 frame, and at least 2 are taken"):
            own([video])
        return
    got = own([video])
    for key, value in want.items():
        assert got[key].shape == value.shape, key
        assert (got[key].float() - value.float()).abs().max() < 0.1


@pytest.mark.parametrize("name", ALWAYS)
def test_tokens_of_a_video_are_known_without_the_weights(name: str, source: Videos) -> None:
    backend, handle = opened(name), resolve(str(build(name)), device="cpu")
    assert handle.video_tokens is not None
    for path in ("long.mp4", "short.mp4", "tall.mp4"):
        video = source.load_image(VideoRef(path=path, frames=FRAMES))
        row = video_row(path, "What happens?", "It turns red.")
        block = backend.prepare([conversation(row)], range(1), source, False)
        (prepared,) = block.images.values()
        assert handle.video_tokens([video, video]) == [len(prepared.expansion)] * 2
        assert len(prepared.expansion) < len(block.rows[0].ids)
