"""A server that a run asks late has to answer before another model scores the pool."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("httpx")

from tests.backends.openai.odd_server import answering
from tests.runs import compute
from tests.text_pools import Loss, Model, record, write_pool
from thresher.backends import ModelHandle
from thresher.backends.fake import IDENTITY
from thresher.backends.openai.options import ServerOptions
from thresher.backends.openai.resolve import resolve
from thresher.errors import ServerError
from thresher.pools import Pool, open_pool
from thresher.storage.columns import Store


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(20)]))


def served(url: str) -> ModelHandle:
    return resolve(f"{url}#judge", ServerOptions(backoff=0.0, timeout=5.0))


def test_unreachable_server_ends_the_run_before_a_row_is_scored(pool: Pool, tmp_path: Path) -> None:
    store, model = Store(tmp_path / "store"), Model()
    with answering(lambda body: (200, {}, {})) as server:
        gone = served(server.url)
    with pytest.raises(ServerError, match=r"does not answer .* so nothing was scored yet"):
        compute(Loss(IDENTITY), pool, store=store, model=model.handle, roles={"names": gone})
    assert model.opened == 0
    # scored without the role; then nothing is left that would need the other model first
    compute(Loss(IDENTITY), pool, store=store, model=model.handle)
    compute(Loss(IDENTITY), pool, store=store, model=model.handle, roles={"names": gone})


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
    code: int, body: object, message: str, pool: Pool, tmp_path: Path
) -> None:
    model = Model()
    with answering(lambda asked: (code, body, {})) as server:
        options = {
            "store": Store(tmp_path / "store"),
            "model": model.handle,
            "roles": {"names": served(server.url)},
        }
        if message:
            with pytest.raises(ServerError, match=message):
                compute(Loss(IDENTITY), pool, **options)
        else:
            compute(Loss(IDENTITY), pool, **options)
        assert server.paths == ["/v1/models"]
    assert model.opened == (0 if message else 1)


def test_the_server_itself_is_not_asked_beforehand(pool: Pool, tmp_path: Path) -> None:
    """Where its own rows come first, their requests tell whether it answers."""
    calls: list[int] = []
    handle = dataclasses.replace(Model().handle, check=lambda: calls.append(1))
    compute(Loss(IDENTITY), pool, store=Store(tmp_path / "store"), model=handle)
    assert not calls


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
