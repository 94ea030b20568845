"""The oracle teacher answers correctly from the hidden labels, for every kind of row."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from benchmarks.label_teacher import NAMED, TRAINS, LabelTeacher, label_teacher

from thresher.demo.pool import SOURCES, make_pool
from thresher.demo.styles import STYLES as DEMO_STYLES
from thresher.pools import open_pool
from thresher.signals.capabilities import CAPABILITIES, STYLES
from thresher.signals.judge import Judge
from thresher.signals.style import Style, WrittenStyles
from thresher.signals.written_score import WrittenScore


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    file = make_pool(tmp_path_factory.mktemp("world"), rows=60)
    labels = file.parent / "hidden_labels.jsonl"
    return open_pool(file), labels, [json.loads(line) for line in labels.read_text().splitlines()]


def test_labels_cover_every_kind_and_style():
    assert {kind for s in SOURCES for kind in s.kinds} | {"two_images"} == set(TRAINS)
    names = {c.name for c in CAPABILITIES}
    assert all({first, *also} <= names for first, also in TRAINS.values())
    assert set(NAMED) == set(DEMO_STYLES) and set(NAMED.values()) <= set(STYLES)


def test_identity_is_the_content_of_the_labels(world, tmp_path: Path):
    _, labels, _ = world
    handle = label_teacher(labels)
    assert handle.identity == label_teacher(labels).identity and isinstance(
        handle.open(), LabelTeacher
    )
    (tmp_path / "x").write_text("{}")
    assert label_teacher(tmp_path / "x").identity != handle.identity


def test_answers_judge_and_styler_questions(world):
    pool, labels, rows = world
    handle = label_teacher(labels)
    backend, samples = handle.open(), pool.samples(range(len(rows)))
    signals = [Judge(handle.identity, c) for c in CAPABILITIES] + [
        Style(handle.identity, s) for s in STYLES
    ]
    (pieces,) = Judge.batch_rows(signals, samples, None, backend, pool)
    assert backend.asked == len(rows)
    for c, piece in zip(CAPABILITIES, pieces[:14], strict=True):
        for label, best, score in zip(
            rows, piece.values["best"], piece.values["score"], strict=True
        ):
            first = [TRAINS[k][0] for k in label["kinds"]]
            expected = 0 if label["noisy"] else 5 if c.name in first else None
            assert expected is None or best == expected, (c.name, label)
            assert math.isclose(score, best, abs_tol=0.1)
    chosen = np.stack([p.values["chosen"] for p in pieces[14:]], axis=1)
    assert chosen.any(axis=1).all()
    for label, row in zip(rows, chosen, strict=True):
        assert row[STYLES.index(NAMED[label["style"]])] and row.sum() <= 2
    (written,) = WrittenStyles(handle.identity).rows(samples, None, backend, pool)
    bits = (chosen * (1 << np.arange(9))).sum(axis=1)
    assert (written.values["styles"] == bits).all() and written.values["parsed"].all()
    (scores,) = WrittenScore(handle.identity, CAPABILITIES[1]).rows(samples, None, backend, pool)
    assert (scores.values["score"] == pieces[1].values["best"]).all()
