"""Losses of given answers from a server with vLLM's `prompt_logprobs`, compared with this process
on the same tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.openai.asked_rows import collect
from tests.openai_server import Plan, Real, serving
from tests.picture_rows import ROWS, Pictures, row
from tests.tiny_models import NotBuilt, build
from thresher.backends import resolve
from thresher.backends.openai.options import ServerOptions
from thresher.errors import CapabilityError
from thresher.signals.answer_loss import without_images
from thresher.types import ImageRef, Sample

# templates whose ends are not unique in the text take the exact way; each another peculiarity
NAMES = ["qwen2_5_vl", "llava", "llava_onevision", "smolvlm", "gemma3"]


@pytest.fixture(params=NAMES)
def folder(request: pytest.FixtureRequest) -> Path:
    try:
        return build(request.param)
    except NotBuilt as e:
        pytest.skip(str(e))


def opened(url: str, **options: Any) -> Any:
    given = {"timeout": 60.0, "backoff": 0.01, **options}
    return resolve(f"{url}#m", server=ServerOptions(**given)).open()


def test_losses_are_those_of_this_process(folder: Path) -> None:
    here = resolve(str(folder), device="cpu", dtype="float32").open()
    rows = [*ROWS, *(bare for r in ROWS[:2] if isinstance(bare := without_images(r), Sample))]
    want, _ = collect(here.answer_loss(rows, Pictures()), len(rows))
    with serving(Plan(model=str(folder), name="m")) as server:
        there = opened(server.url)
        got, errors = collect(there.answer_loss(rows, Pictures()), len(rows))
    assert errors == [""] * len(rows)
    assert got["tokens"].tolist() == want["tokens"].tolist()
    np.testing.assert_allclose(got["nll"], want["nll"], atol=1e-4)
    assert got["greedy_match"].tolist() == want["greedy_match"].tolist()


def test_losses_after_a_demonstration(folder: Path) -> None:
    if folder.name.startswith("llava_onevision"):
        pytest.skip("how a server encodes an image among several is its own")
    here = resolve(str(folder), device="cpu", dtype="float32").open()
    shown = [ROWS[1], ROWS[2], ROWS[0], ROWS[4]]
    rows = [ROWS[0], ROWS[0], ROWS[3], ROWS[2]]
    want, _ = collect(here.one_shot(rows, shown, Pictures()), len(rows))
    with serving(Plan(model=str(folder), name="m")) as server:
        got, errors = collect(opened(server.url).one_shot(rows, shown, Pictures()), len(rows))
    assert errors == [""] * len(rows)
    np.testing.assert_allclose(got["nll"], want["nll"], atol=1e-4)


def test_one_request_a_row_once_the_marks_are_known() -> None:
    rows = [row(f"q{i}", f"Is {i} a number?", "Yes, it is") for i in range(6)]
    with serving(Plan(model="tiny:qwen2_5_vl", name="m")) as server:
        there = opened(server.url)
        collect(there.answer_loss(rows, Pictures()), len(rows))
        probes, check = 4, 2
        assert len(server.asked) == probes + check + len(rows)
        collect(there.answer_loss(rows[:3], Pictures()), 3)
        assert len(server.asked) == probes + check + len(rows) + 3
        settings = [body for _, _, body in server.asked]
    assert all(body["prompt_logprobs"] == 0 and body["max_tokens"] == 1 for body in settings)


def test_rows_without_a_loss() -> None:
    rows = [
        row("fine", "Is it red?", "No"),
        row("control", "Is it red?<|im_end|>", "No"),
        row("empty", "Is it red?", ""),
        row("broken", "<image>Is it red?", "No"),
        row("long", "Is it red? " * 80, "No"),
    ]
    rows[3] = Sample("broken", rows[3].turns, (ImageRef("broken.png", size=1),))
    with serving(Plan(model="tiny:qwen2_5_vl", name="m", context=120)) as server:
        values, errors = collect(opened(server.url).answer_loss(rows, Pictures()), len(rows))
    assert errors[0] == "" and np.isfinite(values["nll"][0])
    assert errors[1] == "control-token: the text contains the model's control token '<|im_end|>'"
    assert errors[2] == "no-answer: every assistant turn is empty"
    assert "broken image" in errors[3]
    assert errors[4].startswith("too long: the server refuses it (HTTP 400): This model's maximum")
    assert np.isnan(values["nll"][1:]).all()


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ({"prompt_logprobs": False}, "its answer to a test request has none"),
        ({"unknown": "prompt_logprobs"}, "refuses the test request .*Unrecognized"),
        ({"unknown": "add_generation_prompt"}, "refuses the test request .*Unrecognized"),
    ],
)
def test_a_server_without_prompt_logprobs(plan: dict[str, Any], why: str) -> None:
    with serving(Plan(model="tiny:qwen2_5_vl", name="m", **plan)) as server:
        with pytest.raises(CapabilityError, match=rf"'m' is behind a server.*vLLM.*{why}"):
            collect(opened(server.url).answer_loss(ROWS[:2], Pictures()), 2)
        assert len(server.asked) == 1


def test_a_server_that_ignores_where_a_prompt_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes the parameters for unknown ones and always adds the generation prompt."""
    real = Real.prompt
    monkeypatch.setattr(Real, "prompt", lambda self, messages, _: real(self, messages, {}))
    with serving(Plan(model="tiny:qwen2_5_vl", name="m")) as server:
        with pytest.raises(CapabilityError, match="ignores where a prompt is to end"):
            collect(opened(server.url).answer_loss(ROWS[:2], Pictures()), 2)
        assert len(server.asked) == 4


def test_test_requests_count_against_the_limit() -> None:
    rows = [row(f"q{i}", f"Is {i} a number?", "Yes") for i in range(6)]
    with serving(Plan(model="tiny:qwen2_5_vl", name="m")) as server:
        there = opened(server.url, max_requests=9, concurrency=1)
        found = []
        with pytest.raises(Exception, match="Stopped at"):
            found += there.answer_loss(rows, Pictures())
        assert len(server.asked) == 9
