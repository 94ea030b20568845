"""A server that a run asks late has to answer before another model scores the pool."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx")

from tests.backends.openai.odd_server import answering
from tests.text_pools import Loss, Model, record, write_pool
from thresher.backends import ModelHandle
from thresher.backends.fake import IDENTITY
from thresher.backends.openai.options import ServerOptions
from thresher.backends.openai.resolve import resolve
from thresher.engine import RunContext
from thresher.engine.columns import compute_all
from thresher.errors import ServerError
from thresher.pools import Pool, open_pool
from thresher.request import RunRequest
from thresher.storage.columns import Store


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(20)]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def served(url: str, behind: Model) -> ModelHandle:
    """A model behind a server; what it answers to the rows is `behind`."""
    handle = resolve(f"{url}#judge", ServerOptions(backoff=0.0, timeout=5.0))
    return dataclasses.replace(handle, open=behind.handle.open)


def run(pool: Pool, store: Store, model: Model, judge: ModelHandle) -> Any:
    """The loss of the main model, then that of the judge."""
    signals = {"loss": Loss(IDENTITY), "late": Loss(judge.identity)}
    context = RunContext(store, model.handle, {"judge": judge})
    return compute_all(signals, pool, RunRequest(force=True), context)


def test_unreachable_server_ends_the_run_before_a_row_is_scored(pool: Pool, store: Store) -> None:
    model, behind = Model(), Model()
    with answering(lambda body: (200, {}, {})) as server:
        judge = served(server.url, behind)
    with pytest.raises(ServerError, match=r"does not answer .* needed later"):
        run(pool, store, model, judge)
    assert model.opened == 0 and behind.opened == 0


def test_server_with_stored_answers_is_not_asked(pool: Pool, store: Store) -> None:
    model, behind = Model(), Model()
    with answering(lambda body: (200, {}, {})) as server:
        judge = served(server.url, behind)
    context = RunContext(store, None, {"judge": judge})
    compute_all({"late": Loss(judge.identity)}, pool, RunRequest(force=True), context)
    run(pool, store, model, judge)  # the server is gone
    assert model.opened == 1 and behind.opened == 1


@pytest.mark.parametrize(
    ("code", "body", "message"),
    [
        (200, {"data": [{"id": "judge"}]}, ""),
        (404, b"", ""),
        (500, b"no such page", ""),
        (401, {"error": {"message": "Invalid key"}}, "needs a key"),
    ],
)
def test_any_answer_but_a_refused_key_will_do(
    code: int, body: object, message: str, pool: Pool, store: Store
) -> None:
    model, behind = Model(), Model()
    with answering(lambda asked: (code, body, {})) as server:
        if message:
            with pytest.raises(ServerError, match=message):
                run(pool, store, model, served(server.url, behind))
        else:
            run(pool, store, model, served(server.url, behind))
        assert server.paths == ["/v1/models"]
    assert model.opened == behind.opened == (0 if message else 1)


def test_server_that_is_asked_first_is_not_checked(pool: Pool, store: Store) -> None:
    """Its requests tell whether it answers."""
    judge = served("http://127.0.0.1:9/v1", Model())
    calls: list[int] = []
    judge = dataclasses.replace(judge, check=lambda: calls.append(1))
    compute_all(
        {"late": Loss(judge.identity)},
        pool,
        RunRequest(force=True),
        RunContext(store, None, {"judge": judge}),
    )
    assert not calls


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
