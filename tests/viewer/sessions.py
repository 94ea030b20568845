"""Selections for the viewer, made with a fake model, and a client that acts like a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from tests import runs as run
from tests.report.image_pools import picture_pool, record, selected
from tests.text_pools import Model
from thresher.backends import ModelHandle
from thresher.methods import load
from thresher.pools import Pool
from thresher.selection.result import Outcome
from thresher.storage.columns import Store
from thresher.types import Budget
from thresher.viewer.app import application
from thresher.viewer.guard import Guard, Keys
from thresher.viewer.session import Session

PORT = 4321
KEYS = Keys("the-token", "the-signing-key")
TOKEN = {"Authorization": f"Bearer {KEYS.token}"}


def pool_of(folder: Path, rows: int = 160, extra: list[dict[str, Any]] | None = None) -> Pool:
    """A pool without a cache; its images are in the folder `images`."""
    return picture_pool(folder, [*(record(i) for i in range(rows)), *(extra or [])])


def session_of(
    folder: Path, method: str, rows: int = 160, budget: str = "30%", **settings: str
) -> Session:
    return Session(
        selected(pool_of(folder / "pool", rows), method, folder / "out", budget, **settings)
    )


def cannot_open() -> Any:
    raise AssertionError("a model was opened")


def by_run(
    session: Session,
    method: str,
    budget: str,
    settings: dict[str, str],
    seed: int = 0,
    **mixture: Any,
) -> Outcome:
    """What `run.select` gives with the same store and a model that must not be asked."""
    handle = ModelHandle("fake", Model().handle.identity, open=cannot_open)
    store = Store(session.store.root)
    return run.select(
        session.pool,
        load(method, settings),
        Budget.parse(budget),
        seed=seed,
        model=handle,
        store=store,
        **mixture,
    )


class Client:
    """A browser that opened the viewer: its own Origin, the token of its page."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.http = TestClient(
            Guard(application(session, KEYS), PORT, KEYS), base_url=f"http://127.0.0.1:{PORT}"
        )
        self.http.headers.update(TOKEN)
        assert self.http.get("/page").status_code == 200

    def get(self, path: str, **query: Any) -> Any:
        return self.http.get(path, params=query)

    def rows(self, **query: Any) -> dict[str, Any]:
        answer = self.get("/rows", **query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def post(self, path: str, body: Any, **headers: str) -> Any:
        result = {"Origin": f"http://127.0.0.1:{PORT}"} | headers
        return self.http.post(path, json=body, headers=result)

    def change(self, path: str, body: Any) -> dict[str, Any]:
        answer = self.post(path, body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def select(self, budget: str, **settings: str) -> dict[str, Any]:
        displayed = self.session.displayed.params
        asked = {
            "method": displayed.method,
            "budget": budget,
            "seed": str(displayed.seed),
            "settings": dict(displayed.settings) | settings,
        }
        return self.change("/select", asked)
