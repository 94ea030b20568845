"""Conformance of every method in METHODS, on synthetic columns."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from tests.methods.planted_columns import (
    columns_of,
    digests,
    like_real,
    sample_columns,
    target_columns,
)
from thresher.clusters import vectors
from thresher.errors import ConfigError
from thresher.fingerprint import fingerprint
from thresher.methods import METHODS, describe, load, method_class
from thresher.methods.needs import models_of, needs, needs_target
from thresher.methods.settings import as_text, parse, settings_of
from thresher.testing import check_method
from thresher.types import Capability, Columns, MethodContext, ModelIdentity, Note, OfTarget, Signal

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")

# every method with its defaults, and every choice of every setting at least once
VARIANTS = [
    *((name, {}) for name in METHODS),
    ("stratified", {"by": "equal"}),
    ("stratified", {"by": "skill"}),
    ("stratified", {"by": "skill_proportional"}),
    ("length", {"unit": "chars"}),
    ("perplexity", {"where": "top"}),
    ("perplexity", {"where": "bottom"}),
    ("clipper", {"prefer": "least_helped"}),
    ("clipper", {"prefer": "none"}),
    ("clipper", {"prefer_share": "1"}),
    ("clipper", {"prefer_share": "0"}),
    ("clipper", {"mirror": "one_shot"}),
    ("clipper", {"balance": "source"}),
    ("clipper", {"balance": "skill"}),
    ("clipper", {"knowledge_ratio": "0.2"}),
    ("clipper", {"knowledge_ratio": "1"}),
    ("clipper", {"bins": "1"}),
    ("mllm_selector", {"alpha": "0"}),
    ("mllm_selector", {"alpha": "1000"}),
    ("mllm_selector", {"balance": "none"}),
    ("mllm_selector", {"balance": "skill"}),
    ("mllm_selector", {"groups": "1", "max_percentile": "90"}),
    ("mllm_selector", {"seed_fraction": "1", "epochs": "2", "learning_rate": "1e-4"}),
    ("error_driven", {"retrieval": "embedding", "teacher": "demo"}),
    ("error_driven", {"identify": "random", "query": "step"}),
    ("error_driven", {"identify": "last", "switch": "sample:4", "ask": "plain"}),
    ("error_driven", {"target": "random"}),
    ("mmssr", {"capabilities": "ocr,logical_deduction", "weights": "ocr:2"}),
    ("mmssr", {"group_by": "style", "threshold": "0.5"}),
    ("mmssr", {"score": "argmax", "style": "likelihood"}),
    ("mmssr", {"balance": "skill"}),
    ("mmssr", {"score": "generate", "style": "generate"}),
    ("winnow", {"keep": "0.3", "power": "0"}),
    ("winnow", {"keep": "1", "leaves": "9", "layer": "1"}),
    ("winnow", {"image_gain": "true", "guard": "off"}),
    ("winnow", {"trust": "seed", "guard": "on"}),
    ("winnow", {"trust": "base", "guard": "off"}),
    ("winnow", {"image_gain": "true", "guard": "on"}),
    ("visnec", {"clusters": "3", "layer": "1"}),
    ("dics", {"warmup": "off", "function_words": "1"}),
    ("dics", {"warmup": "12.5%", "layer": "1"}),
]
every = pytest.mark.parametrize(
    ("name", "settings"), VARIANTS, ids=lambda v: v if isinstance(v, str) else str(v)
)


sampled = functools.cache(sample_columns)  # shared: no method changes its input, as a test checks


@functools.cache
def equal_rows(n, seed):
    """Columns of `n` rows that differ only in their ties."""
    flat = np.ones(n), np.ones(n), np.zeros(n, bool)
    return columns_of(*flat, seed=seed, source=np.zeros(n, int), length=np.zeros(n, int))


def select(name, settings, columns, k):
    return choose(load(name, settings), columns, k)


def choose(method, columns, k):
    """As a run does: a method that needs a validation set gets its columns too."""
    return method.select(columns, k, target_columns() if needs_target(method) else None)


@every
def test_conforms(name, settings):
    """The public checks, which authors of plug-ins run on their methods; another process for the
    defaults only."""
    target = target_columns() if needs_target(load(name, settings)) else None
    check_method(
        method_class(name),
        settings,
        columns=sampled(200),
        target=target,
        nested=name in ("random", "length"),
        other_process=not settings,
    )


@every
@pytest.mark.parametrize(
    ("n", "k"), [(200, 60), (200, 1), (200, 200), (50, 500), (1, 1), (2, 1), (7, 3)]
)
def test_returns_exactly_the_budget_in_unique_rows(name, settings, n, k):
    rows = select(name, settings, sampled(n), k).rows
    assert rows.dtype == np.int64
    assert len(rows) == min(k, n) == len(np.unique(rows))
    assert rows.min() >= 0 and rows.max() < n


@every
def test_reasons_are_plain_columns_of_all_rows(name, settings):
    selection = select(name, settings, sampled(90), 20)
    for key, array in selection.reason.items():
        assert array.shape == (90,), key
        plain = array.dtype.kind in "biufU" or all(isinstance(v, str) for v in array.tolist())
        assert plain, f"{key} is {array.dtype}: parquet wants numbers, truth values and text"
    assert all(isinstance(note, (str, Note)) and str(note) for note in selection.notes)


@every
def test_is_deterministic(name, settings):
    a, b = (select(name, settings, sampled(300), 77) for _ in range(2))
    assert a.rows.tolist() == b.rows.tolist()
    assert a.notes == b.notes


@every
@pytest.mark.parametrize("copies", [False, True])
def test_order_of_the_pool_does_not_matter(name, settings, copies):
    n = 240
    nll, one, known = like_real(n, 5)
    digest = digests(n)
    source, length = np.arange(n) % 3, np.arange(n) % 7
    if copies:  # copies of a row are equal in everything
        first = np.arange(n) // 4 * 4
        nll, one, known, digest, source, length = (
            a[first] for a in (nll, one, known, digest, source, length)
        )
    seen = []
    for shuffle in (np.arange(n), np.random.default_rng(1).permutation(n)):
        columns = columns_of(
            nll[shuffle],
            one[shuffle],
            known[shuffle],
            digest=digest[shuffle],
            source=source[shuffle],
            length=length[shuffle],
        )
        rows = select(name, settings, columns, 70).rows
        seen.append(columns.digest[rows].tolist())
    assert seen[0] == seen[1]


@every
def test_does_not_modify_its_input(name, settings):
    columns = sample_columns(120)
    before = {(s, f): a.copy() for s, fields in columns.values.items() for f, a in fields.items()}
    before |= {("", f): getattr(columns, f).copy() for f in ("digest", "ties", "source")}
    for fields in columns.values.values():
        for array in fields.values():
            array.flags.writeable = False
    select(name, settings, columns, 30)
    for (s, f), array in before.items():
        now = columns.values[s][f] if s else getattr(columns, f)
        assert now.tobytes() == array.tobytes(), f"{s}.{f} changed"


@pytest.fixture
def basis_once(monkeypatch):
    """Principal components of equal vectors are computed once: a seed does not change them, and
    they take nearly all the time of a selection by dics."""
    compute, known = vectors._principal, {}

    def remember(sample, dims):
        key = sample.tobytes(), dims
        if key not in known:
            known[key] = compute(sample, dims)
        return known[key]

    monkeypatch.setattr(vectors, "_principal", remember)


@every
@pytest.mark.usefixtures("basis_once")
def test_ties_have_equal_chances(name, settings):
    """All rows equal: over many seeds each is taken about as often as a fair draw would."""
    n, k, seeds = 30, 10, 60
    method = load(name, settings)
    times = np.zeros(n)
    for seed in range(seeds):
        times[choose(method, equal_rows(n, seed), k).rows] += 1
    expected = seeds * k / n
    chi_square = ((times - expected) ** 2 / (expected * (1 - k / n))).sum()
    assert chi_square < 66  # 29 degrees of freedom: one honest set of seeds in 10,000 exceeds this
    assert times.min() > 0


def test_seeds_change_what_random_takes():
    nll, one, known = like_real(500, 0)
    taken = [
        set(select("random", {}, columns_of(nll, one, known, seed=s), 100).rows.tolist())
        for s in range(4)
    ]
    for i in range(4):
        for j in range(i):
            assert 5 < len(taken[i] & taken[j]) < 40  # 20 expected


@every
def test_unknown_setting_is_refused_with_a_suggestion(name, settings):
    with pytest.raises(ConfigError, match="has no setting 'prefr'"):
        load(name, {**settings, "prefr": "x"})
    known = [f.name for f in dataclasses.fields(load(name))]
    if known:
        with pytest.raises(ConfigError, match=f"Did you mean {known[0]!r}"):
            load(name, {known[0] + "_": "x"})


@every
def test_signals_name_the_columns_read(name, settings):
    """`select` gets exactly the columns of its signals: nothing else may be read, and every signal
    has an identity."""
    method = load(name, settings)
    signals = method.signals(MethodContext(MODEL, dict.fromkeys(models_of(method), MODEL)))
    full = sampled(60)
    only = {
        key: {f.name: full.values[key][f.name] for f in signal.fields if f.name in full.values[key]}
        for key, signal in signals.items()
        if not isinstance(signal, OfTarget)
    }
    columns = Columns(full.digest, full.ties, full.source, full.source_names, only)
    assert len(choose(method, columns, 9).rows) == 9
    for signal in signals.values():
        signal = signal.signal if isinstance(signal, OfTarget) else signal
        assert isinstance(signal, Signal)
        assert len(fingerprint(signal)) == 32


@every
def test_missing_model_is_reported(name, settings):
    method = load(name, settings)
    if needs(method):
        with pytest.raises(ConfigError, match="`model`"):
            method.signals(MethodContext())
    else:
        method.signals(MethodContext())


@every
def test_settings_round_trip_as_text(name, settings):
    cls = type(load(name))
    displayed = {s.name: s.default for s in settings_of(cls)}
    assert cls(**parse(cls, displayed, name)) == cls()
    assert all(s.help for s in settings_of(cls))
    method = load(name, settings)
    again = load(
        name, {f.name: as_text(getattr(method, f.name)) for f in dataclasses.fields(method)}
    )
    assert again == method


def test_describe_lists_the_table():
    rows = {row.name: row for row in describe()}
    assert list(rows)[: len(METHODS)] == list(METHODS)
    assert rows["random"].needs == () and rows["random"].settings == ()
    assert rows["clipper"].needs == (Capability.LOGPROBS,)
    assert "2603.28058" in rows["clipper"].paper
    assert [s.name for s in rows["perplexity"].settings] == ["where"]
    assert rows["perplexity"].settings[0].type == "top | middle | bottom"
    assert all(row.summary.endswith(".") for row in rows.values())


def test_every_variant_is_tested():
    assert {name for name, _ in VARIANTS} == set(METHODS)
