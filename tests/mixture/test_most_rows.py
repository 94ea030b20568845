"""The largest number of rows within a token budget, also if quotas allow only some numbers."""

from __future__ import annotations

import pytest

from thresher.errors import ConfigError
from thresher.mixture.tokens import largest_selection


def rows(at_least: int, at_most: int = 100):
    """Rows 0 … k-1; a number of rows outside the bounds is one that quotas refuse."""

    def choose(k: int) -> list[int]:
        if not at_least <= k <= at_most:
            raise ConfigError(f"{k} rows do not meet the quotas")
        return list(range(k))

    return choose


def ten_each(chosen: list[int]) -> int:
    return 10 * len(chosen)


@pytest.mark.parametrize("guess", [1, 3, 9, 10, 40, 100])
def test_largest_number_of_rows_within_the_budget(guess: int) -> None:
    assert len(largest_selection(rows(0), ten_each, 109, 100, guess)) == 10


@pytest.mark.parametrize("guess", [1, 2, 6, 7, 60])
def test_search_continues_if_the_first_guess_violates_quotas(guess: int) -> None:
    assert len(largest_selection(rows(7), ten_each, 109, 100, guess)) == 10


def test_quotas_above_the_token_budget_are_reported() -> None:
    with pytest.raises(ConfigError, match="do not meet the quotas"):
        largest_selection(rows(11), ten_each, 109, 100, 5)
    with pytest.raises(ConfigError, match="do not meet the quotas"):
        largest_selection(rows(200), ten_each, 109, 100, 5)


def test_token_budget_below_the_first_row_is_reported() -> None:
    with pytest.raises(ConfigError, match="less than the first row"):
        largest_selection(rows(0), ten_each, 9, 100, 5)
