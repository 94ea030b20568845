"""`--engine ray` without Ray: its options, and what happens to workers that end, fail or die."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.selection.fake_ray import FakeRay, RayError, RayTaskError
from tests.text_pools import Loss, Model, record, write_pool
from thresher.backends.fake import IDENTITY
from thresher.engine import RunContext
from thresher.engine.columns import compute_all
from thresher.errors import (
    ConfigError,
    MissingExtra,
    ModelError,
    PoolError,
    StoreError,
    TooManyFailures,
)
from thresher.pools import open_pool
from thresher.request import RunRequest
from thresher.selection import ray_actor, ray_cluster, ray_workers
from thresher.selection.config import check_request
from thresher.selection.ray_actor import ScoringActor, make_job
from thresher.selection.ray_cluster import Placement, place
from thresher.selection.ray_workers import MAX_DEATHS, RayWorkers
from thresher.storage.claims import Claims
from thresher.storage.columns import Store
from thresher.storage.opening import open_store


class Cluster:
    """Workers of a fake cluster, and what was said about them."""

    def __init__(self, workers: int = 2) -> None:
        self.ray, self.said, self.wanted = FakeRay(), [], workers
        self.workers = RayWorkers(
            self.ray,
            make_job({}, "store", "claim", workers, 0),
            Placement(False, workers, "float32"),
            lambda: self.wanted,
            self.said.append,
            self.said.append,
        )
        assert not self.ray.actors  # none is needed until something is waited for
        assert self.workers.watch()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_SECONDS", "GROW_SECONDS"):
        monkeypatch.setattr(ray_workers, name, 0.0)


def test_work_goes_on_until_all_workers_have_ended() -> None:
    cluster = Cluster()
    first, second = cluster.ray.actors
    assert cluster.ray.resources["num_cpus"] == 0.5 and cluster.workers.watch()
    first.end()
    assert cluster.workers.watch()
    second.end()
    assert not cluster.workers.watch() and cluster.said == []


def test_a_gpu_each() -> None:
    assert Placement(True, 2, "bfloat16").resources == {"num_gpus": 1}


def test_a_dead_worker_is_replaced_and_its_rows_still_count() -> None:
    cluster = Cluster(1)
    (actor,) = cluster.ray.actors
    actor.scored(30)
    for _ in range(2):  # to ask, and to hear the answer
        assert cluster.workers.watch()
    actor.die(RayError("The actor died unexpectedly"))
    assert cluster.workers.watch()
    assert actor.killed and len(cluster.ray.actors) == 2
    assert cluster.said == [
        "Worker 1 on node1 (CPU) died and is replaced; what it had stored is not scored again."
    ]
    new = cluster.ray.actors[1]
    new.scored(12)
    new.end()
    assert not cluster.workers.watch()
    cluster.workers.close(saved=True)
    assert cluster.said[-1] == "Scored by worker 1 on node2 (CPU): 42 rows, replaced 1 time."


def test_a_worker_that_dies_again_and_again_is_given_up() -> None:
    cluster = Cluster(1)
    for _ in range(MAX_DEATHS - 1):
        cluster.ray.actors[-1].die(RayError("dead\nkilled by the memory monitor."))
        assert cluster.workers.watch()
    cluster.ray.actors[-1].die(RayError("dead\nkilled by the memory monitor."))
    with pytest.raises(ModelError, match=r"5 times .*: killed by the memory monitor\. .*ray_work"):
        cluster.workers.watch()


def test_a_worker_that_scores_between_its_deaths_is_replaced_every_time() -> None:
    cluster = Cluster(1)
    for _ in range(2 * MAX_DEATHS):
        actor = cluster.ray.actors[-1]
        actor.scored(1)
        cluster.workers.watch()
        cluster.workers.watch()
        actor.die(RayError("dead"))
        assert cluster.workers.watch()


def test_others_score_the_rows_of_a_worker_that_fails() -> None:
    cluster = Cluster(2)
    first, second = cluster.ray.actors
    first.end(ModelError("no model here."))
    assert cluster.workers.watch()
    assert cluster.said == [
        "Worker 1 on node1 (CPU) failed: no model here. Its rows are scored by the others."
    ]
    second.end()
    assert not cluster.workers.watch() and len(cluster.ray.actors) == 2


@pytest.mark.parametrize("bug", [False, True])
def test_the_last_failure_is_raised(bug: bool) -> None:
    cluster = Cluster(2)
    first, second = cluster.ray.actors
    first.end(ModelError("one"))
    cluster.workers.watch()
    if bug:
        second.die(RayTaskError("Traceback …\nValueError: two"))
    else:
        second.end(ModelError("two"))
    with pytest.raises(RayTaskError if bug else ModelError, match="two"):
        cluster.workers.watch()


def test_too_many_failed_rows_end_the_run_at_once() -> None:
    cluster = Cluster(2)
    cluster.ray.actors[0].end(TooManyFailures("9 of 10 rows"))
    with pytest.raises(TooManyFailures, match="9 of 10 rows"):
        cluster.workers.watch()


def test_workers_are_added_with_the_cluster() -> None:
    cluster = Cluster(1)
    cluster.wanted = 3
    cluster.workers.watch()
    assert len(cluster.ray.actors) == 3
    cluster.wanted = 1
    cluster.workers.watch()
    assert len(cluster.ray.actors) == 3


def test_workers_that_do_not_start_are_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(2)
    monkeypatch.setattr(ray_workers, "PENDING_SECONDS", -1.0)
    for actor in cluster.ray.actors:
        actor.state.result = None
    for _ in range(3):
        cluster.workers.watch()
    assert len(cluster.said) == 1 and cluster.said[0].startswith("2 workers of 2 did not start")


def test_workers_are_asked_to_stop_and_then_ended() -> None:
    cluster = Cluster(1)
    (actor,) = cluster.ray.actors
    cluster.workers.watch()
    cluster.workers.watch()
    cluster.workers.close(saved=False)
    assert actor.stop.refs and actor.killed


def test_progress_of_every_worker_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "REPORT_SECONDS", 0.0)
    cluster = Cluster(2)
    cluster.ray.actors[0].scored(7)
    for _ in range(2):
        cluster.workers.watch()
    line = cluster.said[-1]
    assert line.startswith("Workers: worker 1 on node1 (CPU): 7 rows, ") and "(loss)" in line
    assert "worker 2 on node2 (CPU): 0 rows" in line


# --------------------------------------------------------------------------- what the engine does


def test_this_process_asks_no_model_and_reads_what_workers_stored(tmp_path: Path) -> None:
    pool = open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(20)]))
    store, signal, turns = Store(tmp_path / "store"), Loss(IDENTITY), []

    class Workers:
        def watch(self) -> bool:
            """Stores five rows at a time; the last ones are found after the workers' end."""
            rows = np.arange(5 * len(turns), 5 * len(turns) + 5)
            turns.append(rows)
            keys = np.sort(pool.digest)[rows]
            values = {f.name: np.ones(5, f.dtype) for f in Loss.fields}
            store.append(store.register(signal), Loss.fields, keys, values, [""] * 5)
            store.record_cost(store.register(signal), 5, 1.0)
            return len(turns) < 4

    context = RunContext(store, Model().handle, workers=Workers())
    columns = compute_all({"loss": signal}, pool, RunRequest(), context)
    assert len(turns) == 4 and (columns["loss"].values["nll"] == 1).all()


# ------------------------------------------------------------------------------------ the options


@pytest.mark.parametrize(
    ("options", "option", "says"),
    [
        ({"ray_address": "h:1"}, "ray_address", "needs"),
        ({"ray_workers": 2}, "ray_workers", "needs"),
        ({"engine": "ray", "devices": "0,1"}, "devices", "of its cluster"),
        ({"engine": "ray", "device": "cuda:1"}, "device", "Ray assigns"),
        ({"engine": "ray", "backend": "openai", "url": "http://h:1"}, "engine", "themselves"),
        ({"engine": "ray", "ray_workers": 0}, "ray_workers", "at least 1"),
        ({"engine": "ray", "ray_address": "head"}, "ray_address", "HOST:PORT"),
        ({"engine": "ray", "ray_address": "http://h:1"}, "ray_address", "HOST:PORT"),
        ({"engine": "rya"}, "engine", "ray"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], option: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        check_request(RunRequest(**options))  # type: ignore[arg-type]
    assert caught.value.option == option


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"ray, which is not installed: .*thresher\[ray\]"):
        ray_cluster.connect(None)


def test_an_address_where_nothing_answers_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigError, match="nothing answers there"):
        ray_cluster._check_reachable("127.0.0.1:9")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS\): nothing answers there"):
        ray_cluster._check_reachable(None)


@pytest.mark.parametrize(
    ("resources", "options", "expected"),
    [
        ({"CPU": 8.0, "GPU": 3.0}, {}, Placement(True, 3, "bfloat16")),
        ({"CPU": 8.0}, {}, Placement(False, 8, "float32")),
        ({"CPU": 8.0, "GPU": 3.0}, {"device": "cpu"}, Placement(False, 8, "float32")),
        ({"CPU": 8.0, "GPU": 3.0}, {"ray_workers": 2}, Placement(True, 2, "bfloat16")),
        ({"GPU": 1.0}, {"dtype": "float16"}, Placement(True, 1, "float16")),
        ({}, {"device": "cuda", "ray_workers": 2}, Placement(True, 2, "bfloat16")),
        ({}, {"device": "cuda"}, None),
    ],
)
def test_workers_follow_the_cluster(
    monkeypatch: pytest.MonkeyPatch,
    resources: dict[str, float],
    options: dict[str, object],
    expected: Placement | None,
) -> None:
    class Connected:
        @staticmethod
        def cluster_resources() -> dict[str, float]:
            return resources

    monkeypatch.setattr(ray_cluster, "connect", lambda address: Connected)
    request = RunRequest(engine="ray", **options)  # type: ignore[arg-type]
    if expected is None:
        with pytest.raises(ConfigError, match="no GPU"):
            place(request)
    else:
        assert place(request) == expected


# ------------------------------------------------------------------------------------- the worker


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScoringActor:
    monkeypatch.setattr(ray_actor, "_device", lambda: "CPU")
    monkeypatch.setattr(ray_actor, "STORE_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    return ScoringActor()


def test_a_worker_scores_into_the_store_and_counts_its_rows(
    actor: ScoringActor, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    write_pool(tmp_path / "pool.json", [record(i) for i in range(12)])
    store = tmp_path / "store"
    request = {"pool": "pool.json", "method": "perplexity", "budget": "3", "model": "demo"}
    with Claims(store, ()) as claims:
        ended = actor.run(make_job({**request, "store": str(store)}, str(store), claims.name, 1, 0))
    assert ended.error is None and ended.state.done == 12 and ended.state.label == ""


def test_a_worker_refuses_another_store(actor: ScoringActor, tmp_path: Path) -> None:
    ended = actor.run(make_job({}, str(tmp_path / "store"), "absent", 1, 0))
    assert isinstance(ended.error, StoreError) and "all nodes share" in str(ended.error)


def test_a_worker_finds_the_store_at_an_address(
    actor: ScoringActor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    monkeypatch.setenv("THRESHER_MIRRORS", str(tmp_path))
    store = open_store(f"memory://{tmp_path.name}")
    request = {"pool": "absent.json", "method": "length", "budget": "3", "store": store.address}
    with store.claims(()) as claims:
        found = actor.run(make_job(request, store.address, claims.name, 1, 0))
    assert isinstance(found.error, PoolError)  # the store was the right one, and the pool was not
    other = actor.run(make_job(request, store.address, "absent", 1, 0))
    assert isinstance(other.error, StoreError) and "the same server" in str(other.error)


def test_a_worker_refuses_another_version_and_a_missing_folder(
    actor: ScoringActor, tmp_path: Path
) -> None:
    from dataclasses import replace

    with Claims(tmp_path / "store", ()) as claims:
        job = make_job({}, str(tmp_path / "store"), claims.name, 1, 0)
        other = actor.run(replace(job, version="0.0.1"))
        elsewhere = actor.run(replace(job, folder=str(tmp_path / "absent")))
    assert isinstance(other.error, ConfigError) and "0.0.1" in str(other.error)
    assert isinstance(elsewhere.error, ConfigError) and "absent" in str(elsewhere.error)


def test_a_worker_that_is_asked_to_stop_stores_what_it_has_scored(
    actor: ScoringActor, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    write_pool(tmp_path / "pool.json", [record(i) for i in range(300)])
    store = tmp_path / "store"
    request = {"pool": "pool.json", "method": "perplexity", "budget": "3", "model": "demo"}
    advance = actor._progress.advance

    def stopped_at_the_first_rows(rows: int) -> None:
        if rows:
            actor.stop()
        advance(rows)

    actor._progress.advance = stopped_at_the_first_rows  # type: ignore[method-assign]
    with Claims(store, ()) as claims:
        ended = actor.run(make_job({**request, "store": str(store)}, str(store), claims.name, 1, 0))
    assert ended.error is None and 0 < ended.state.done < 300
    assert not list((store / "claims").glob("*.claim"))
