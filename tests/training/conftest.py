"""Pools for the training tests, made once."""

from __future__ import annotations

import pytest

from tests.training.colour_pools import pool_of, record
from thresher.pools import Pool


@pytest.fixture(scope="session")
def training_pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """60 rows to train on."""
    return pool_of(tmp_path_factory.mktemp("examples"), [record(i) for i in range(60)])


@pytest.fixture(scope="session")
def exam_pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """20 rows of the same kinds that are not in `training_pool`."""
    return pool_of(tmp_path_factory.mktemp("exam_pool"), [record(i) for i in range(60, 80)])
