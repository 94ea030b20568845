"""The built-in model gives the same probabilities and texts locally and behind a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.backends.openai.asked_rows import collect
from tests.openai_server import Plan, serving
from thresher.backends import resolve
from thresher.pools import open_pool
from thresher.signals.query import Query, judge_prompt
from thresher.types import Sample, Turn

QUERIES = (
    Query("\nIs the answer right? Answer yes or no.", ("Yes", "No", "yes", "no")),
    Query("\nWhich shape is it?", ("Circle", "Square", "Triangle", "circle")),
)


@pytest.fixture
def pool(tiny_pool: Path) -> object:
    return open_pool(tiny_pool, tiny_pool.parent / "images")


def test_ask_and_generate(pool: object) -> None:
    rows = [s for s in pool.samples(range(len(pool))) if s.images]  # type: ignore[attr-defined, arg-type]
    samples = [judge_prompt(s, "") for s in rows]
    here = resolve("demo").open()
    want, none = collect(here.ask(samples, QUERIES, pool), len(samples))
    texts, _ = collect(here.generate(rows, pool, 12), len(rows))
    with serving(Plan(model="demo", name="demo")) as server:
        there = resolve(f"{server.url}#demo").open()
        got, errors = collect(there.ask(samples, QUERIES, pool), len(samples))
        text, _ = collect(there.generate(rows, pool, 12), len(rows))
    assert errors == none == [""] * len(samples)
    named = np.isfinite(got["logprob"])
    assert named.mean() > 0.5
    np.testing.assert_allclose(got["logprob"][named], want["logprob"][named], atol=1e-4)
    # what the server did not name is less likely than anything it named: 20 tokens hold at least
    # that much each
    assert (want["logprob"][~named] < np.log(1 / 20)).all()
    assert text["text"].tolist() == texts["text"].tolist()
    assert text["finished"].tolist() == texts["finished"].tolist()


def test_losses_and_greedy_answers(pool: object) -> None:
    rows = [s for s in pool.samples(range(len(pool))) if s.images]  # type: ignore[attr-defined, arg-type]
    here = resolve("demo").open()
    written, _ = collect(here.generate(rows, pool, 12), len(rows))
    own = [
        Sample(f"{r.id} own", (*r.turns[:-1], Turn("assistant", str(text))), r.images)
        for r, text in zip(rows, written["text"], strict=True)
    ]
    rows += own
    want, none = collect(here.answer_loss(rows, pool), len(rows))
    with serving(Plan(model="demo", name="demo")) as server:
        there = resolve(f"{server.url}#demo").open()
        got, errors = collect(there.answer_loss(rows, pool), len(rows))
    assert errors == none == [""] * len(rows)
    assert got["tokens"].tolist() == want["tokens"].tolist()
    np.testing.assert_allclose(got["nll"], want["nll"], atol=1e-4)
    assert got["greedy_match"].tolist() == want["greedy_match"].tolist()
    assert want["greedy_match"][len(own) :].any() and not want["greedy_match"].all()
