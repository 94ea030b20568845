"""Parsing of budgets; error messages do not name a flag."""

from __future__ import annotations

from fractions import Fraction

import pytest

from thresher.cli.guard import as_given
from thresher.errors import ConfigError
from thresher.types import Budget, Rows, Share, Tokens


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("30%", Share("30%", Fraction(3, 10))),
        (" 0.1 % ", Share("0.1 %", Fraction(1, 1000))),
        ("100%", Share("100%", Fraction(1))),
        ("20000", Rows("20000", 20000)),
        ("007", Rows("007", 7)),
        ("20Mtok", Tokens("20Mtok", 20_000_000, False)),
        ("1.5 ktokens:total", Tokens("1.5 ktokens:total", 1500, True)),
        ("3tok:answer", Tokens("3tok:answer", 3, False)),
    ],
)
def test_parse_budget(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@pytest.mark.parametrize(
    ("budget", "n", "rows"),
    [("30%", 10, 3), ("0.29%", 1000, 2), ("1%", 3, 1), ("100%", 7, 7), ("5", 3, 3), ("5", 9, 5)],
)
def test_rows_of_a_pool(budget: str, n: int, rows: int) -> None:
    parsed = Budget.parse(budget)
    assert isinstance(parsed, (Rows, Share)) and parsed.rows(n) == rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0", ": at least one row must be kept."),
        ("0%", ": a share must be above 0% and at most 100%."),
        ("150%", ": a share must be above 0% and at most 100%."),
        ("0.3", " is not a budget. Give a share such as 30%, a number of rows such as 20000, or"),
        ("-3", "It cannot be negative."),
        ("many", " is not a budget."),
        ("Mtok", " is not a number of tokens."),
        ("5tok:images", ": expected :total or :answer after the number, not :images."),
        ("0.1tok", ": at least one token must be kept."),
    ],
)
def test_errors_name_the_option_per_interface(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        Budget.parse(text)
    assert error.value.option == "budget" and words in str(error.value)
    assert str(error.value).startswith((f"budget={text}", f'budget="{text}"'))
    assert as_given(error.value, "select", None).startswith(f"--budget {text}")
    assert as_given(error.value, "compare", None).startswith(f"--budgets {text}")


def test_share_below_one_suggests_a_percentage() -> None:
    for text, percent in (("0.3", "30%"), ("0.05", "5%")):
        with pytest.raises(ConfigError, match=f"Did you mean {percent}"):
            Budget.parse(text)
