from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from thresher import methods
from thresher.errors import ConfigError
from thresher.methods import load, method_class
from thresher.methods.random import Random
from thresher.methods.settings import parse, setting, settings_of


@dataclass(frozen=True)
class Everything:
    count: int = setting(3, "how many")
    share: float = setting(0.5, "how much")
    limit: float | None = setting(None, "how much at most")
    fast: bool = setting(False, "hurry")
    label: str = setting("a b", "a word")
    side: Literal["left", "right", "none"] = setting("none", "where")

    name: ClassVar[str] = "everything"


def test_every_type_of_setting():
    given = {
        "count": "7",
        "share": "1e-1",
        "limit": "none",
        "fast": "Yes",
        "label": "x=1",
        "side": "none",
    }
    assert parse(Everything, given, "everything") == {
        "count": 7,
        "share": 0.1,
        "limit": None,
        "fast": True,
        "label": "x=1",
        "side": "none",
    }
    assert parse(Everything, {"limit": " 2 "}, "everything") == {"limit": 2.0}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"count": "3.5"}, "a whole number"),
        ({"count": "none"}, "a whole number"),
        ({"share": "half"}, "a number"),
        ({"share": "nan"}, "a number"),
        ({"limit": "inf"}, r"a number \| none"),
        ({"fast": "maybe"}, "true or false"),
        ({"side": "up"}, r"left \| right \| none"),
        ({"sides": "left"}, "no setting 'sides'. Did you mean 'side'"),
    ],
)
def test_error_states_the_expected_type(given, says):
    with pytest.raises(ConfigError, match=says) as raised:
        parse(Everything, given, "everything")
    assert next(iter(given)) in str(raised.value) and raised.value.exit_code == 2


def test_table_of_settings():
    rows = settings_of(Everything)
    assert [(r.name, r.type, r.default, r.help) for r in rows[:4]] == [
        ("count", "a whole number", "3", "how many"),
        ("share", "a number", "0.5", "how much"),
        ("limit", "a number | none", "none", "how much at most"),
        ("fast", "true or false", "false", "hurry"),
    ]


def test_unknown_method_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'clipper'"):
        load("cliper")
    with pytest.raises(ConfigError, match="Available: random, stratified"):
        load("zzz")


@pytest.mark.parametrize(
    "given",
    [
        {"prefer_share": "1.5"},
        {"prefer_share": "-0.1"},
        {"knowledge_ratio": "50"},
        {"bins": "0"},
        {"bank": "0"},
        {"long_answer": "-1"},
        {"prefer": "most"},
    ],
)
def test_impossible_settings_of_clipper_are_refused(given):
    with pytest.raises(ConfigError, match=next(iter(given))):
        load("clipper", given)


def test_methods_of_other_packages(monkeypatch):
    class Point:
        def __init__(self, name, value):
            self.name, self.value = name, value

    points = [
        Point("theirs", "thresher.methods.random:Random"),
        Point("clipper", "nowhere:Nothing"),
    ]
    monkeypatch.setattr(
        methods, "entry_points", lambda group: points if group == "thresher.methods" else []
    )
    assert method_class("theirs") is Random
    assert method_class("clipper").__name__ == "Clipper"  # ours cannot be replaced
    assert [row.name for row in methods.describe()][-1] == "theirs"
