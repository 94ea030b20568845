"""How well the signals behind winnow detect wrong rows (`benchmarks.suspects`), and how pure skills
are, by the hidden labels of a pool. Computed once for each pool and kept as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import suspects
from benchmarks.proof import extras, setup
from benchmarks.proof.oracles import Labels
from benchmarks.proof.words import WordSkills

from thresher.backends import ModelHandle, resolve
from thresher.engine import RunContext, create_engine
from thresher.pools import Pool
from thresher.request import RunRequest
from thresher.signals.skills import skills_of
from thresher.storage.columns import Store
from thresher.types import Signal

SEED = 0  # of the seed models


def measure(out: Path, sizes: setup.Sizes, model: str, name: str) -> dict[str, Any]:
    """The measurements of a pool, made where they are not there yet.

    `wrong`: signal -> [AUC over the pool, AUC inside skills], 0 to 1, null if undefined; `purity`:
    clusters -> [kind, kind and answer style], 0 to 1.
    """

    def make() -> dict[str, Any]:
        pool, _ = setup.open_world(setup.world_folder(out, sizes), name)
        store = Store(out / "store" / name)
        handle = resolve(model, device="cpu", cache=store.root / "models")
        labels = Labels.read(pool)
        _, wrong = suspects.measure(pool, labels.noisy, handle, store, SEED, list_only=False)
        return {
            "wrong": {signal: [*map(_known, pair)] for signal, pair in wrong.items()},
            "purity": _purity(pool, labels, handle, store),
        }

    return extras.once(_file(out, name), make)


def measured(out: Path, name: str) -> dict[str, Any] | None:
    """The measurements of a pool, or None."""
    file = _file(out, name)
    return json.loads(file.read_text()) if file.exists() else None


def _file(out: Path, name: str) -> Path:
    return out / "extras" / f"signals-{name}.json"


def _purity(pool: Pool, labels: Labels, model: ModelHandle, store: Store) -> dict[str, list[float]]:
    base = model.identity
    clusters: dict[str, Signal] = {
        "states of the middle layer": skills_of(base),
        "states of layer 0": skills_of(base, layer=0.0),
        "states of the last layer": skills_of(base, layer=1.0),
        "hashed words": WordSkills(),
    }
    engine = create_engine(pool, clusters, RunRequest(), RunContext(store, model))
    columns = engine.columns(clusters)
    rows = engine.eligible.pool_rows
    engine.close()
    kinds = labels.kind[rows]
    styles = np.char.add(np.char.add(kinds, " "), labels.style[rows])
    return {
        name: [purity(columns[name]["leaf"], label) for label in (kinds, styles)]
        for name in clusters
    }


def purity(cluster: np.ndarray, label: np.ndarray) -> float:
    """Share of rows, 0 to 1, whose label is the most frequent one of their cluster.

    >>> purity(np.array([0, 0, 0, 1]), np.array(["a", "a", "b", "b"]))
    0.75
    """
    _, numbers = np.unique(label, return_inverse=True)
    counts = np.zeros((int(cluster.max()) + 1, int(numbers.max()) + 1), np.int64)
    np.add.at(counts, (cluster, numbers), 1)
    return float(counts.max(axis=1).sum() / len(cluster))


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else value
