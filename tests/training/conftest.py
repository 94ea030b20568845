"""Pools for the training tests, made once."""

from __future__ import annotations

import pytest

from tests.training.colour_pools import pool_of, record
from thresher.pools import Pool


@pytest.fixture(scope="session")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """60 rows to train on."""
    return pool_of(tmp_path_factory.mktemp("lessons"), [record(i) for i in range(60)])


@pytest.fixture(scope="session")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """20 rows of the same kinds that are not in `lessons`."""
    return pool_of(tmp_path_factory.mktemp("exam"), [record(i) for i in range(60, 80)])
