"""Parsing of server addresses, and the source of the API key."""

from __future__ import annotations

import pytest

from thresher.backends.openai.address import Address, parse, read_key
from thresher.errors import ConfigError

SECRET = "hunter2-very-secret"


@pytest.mark.parametrize(
    ("typed", "base", "model"),
    [
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1", ""),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1", ""),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1", ""),
        (
            "https://api.example.com/v1/#org/name@main",
            "https://api.example.com/v1",
            "org/name@main",
        ),
        ("https://api.example.com/v1/chat/completions#m#2", "https://api.example.com/v1", "m#2"),
        ("HTTP://[::1]:8000/x/v1", "http://[::1]:8000/x/v1", ""),
    ],
)
def test_urls(typed: str, base: str, model: str) -> None:
    assert parse(typed) == Address(base, model)


@pytest.mark.parametrize(
    "typed",
    [
        f"http://me:{SECRET}@host/v1",
        f"http://{SECRET}@host/v1",
        f"https://host/v1?api-key={SECRET}",
        f"http://me:{SECRET}@host:bad/v1",
        "http:///v1",
        "http://host:port/v1",
    ],
)
def test_messages_about_refused_urls_hide_their_secrets(typed: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(typed)
    assert SECRET not in str(refused.value)


def test_local_hosts() -> None:
    here = [
        parse(f"http://{h}:1/v1").is_local
        for h in ("127.0.0.1", "localhost", "[::1]", "127.3.4.5", "example.com", "10.0.0.1")
    ]
    assert here == [True, True, True, True, False, False]


def test_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert read_key(None) is None
    monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")
    assert read_key(None) == SECRET
    monkeypatch.setenv("MINE", "other")
    assert read_key("MINE") == "other"


@pytest.mark.parametrize("given", [SECRET, f"{SECRET} ", "gsk_abcdefgh", ""])
def test_key_given_as_variable_name_is_not_displayed(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("gsk_abcdefgh", raising=False)
    with pytest.raises(ConfigError) as refused:
        read_key(given)
    assert not given.strip() or given.strip() not in str(refused.value)


@pytest.mark.parametrize("key", [f"{SECRET}\nX: y", f"{SECRET} b", f"{SECRET}ü"])
def test_key_invalid_in_a_header_is_refused_without_displaying_it(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ConfigError) as refused:
        read_key(None)
    assert SECRET not in str(refused.value)
