"""Does the list of suspects of the mixed pool contain its machine captions?

The 250 captions of a machine, visibly often wrong, against the 300 captions of people, by the order
of `thresher suspects` among these 550 rows. They describe other pictures (diagrams and photographs;
photographs only), so part of what tells them apart is the kind of picture. No captions by people
exist for the machine's pictures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.auc import auc
from benchmarks.real.by_source import PoolLabels
from benchmarks.real.pools import World
from benchmarks.real.work import base_of, opened, store_of

from thresher.doctor.suspects import THRESHOLD, suspicion_order
from thresher.engine import RunContext, create_engine
from thresher.request import RunRequest
from thresher.signals.suspicion import suspicion_signals
from thresher.storage.atomic import write_bytes

FIRST = (50, 100, 250)


def file_of(a: argparse.Namespace) -> Path:
    return a.out / "proof" / ("suspects.json" if a.rows is None else f"suspects-{a.rows}.json")


def measure(a: argparse.Namespace, world: World) -> dict[str, Any]:
    """The measurement, computed once."""
    file = file_of(a)
    if not file.exists():
        pool, _ = opened(a, world, "mixed")
        store = store_of(a, "mixed")
        model = base_of(a, store)
        signals = suspicion_signals(model.identity)
        engine = create_engine(pool, signals, RunRequest(), RunContext(store, model))
        columns = engine.columns(signals)
        rows = engine.eligible.pool_rows
        engine.close()
        labels = PoolLabels.of(world, "mixed")
        caption = np.array([kind.endswith(": caption") for kind in labels.kind])[rows]
        suspicion = np.asarray(columns["suspicion"]["suspicion"])
        found = summary(suspicion_order(columns), suspicion, caption, labels.noisy[rows])
        write_bytes(file, json.dumps(found, indent=1).encode())
    return json.loads(file.read_text("utf-8"))


def summary(
    order: np.ndarray, suspicion: np.ndarray, caption: np.ndarray, machine: np.ndarray
) -> dict[str, Any]:
    """Numbers of the captions.

    Arguments:
        order: int64 [n], rows by suspicion, the most suspicious first.
        suspicion: float [n].
        caption, machine: bool [n].
    """
    among = order[caption[order]]
    place = np.full(len(order), np.nan)
    place[among] = -np.arange(len(among))
    listed = among[suspicion[among] >= THRESHOLD]
    return {
        "captions": len(among),
        "machine": int(machine[among].sum()),
        "auc": auc(place, machine),
        "precision": {str(k): float(machine[among[:k]].mean()) for k in FIRST if k <= len(among)},
        "listed": len(listed),
        "listed_machine": int(machine[listed].sum()),
    }
