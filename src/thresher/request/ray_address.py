"""The value of `--ray-address`: which Ray cluster to connect to."""

from __future__ import annotations

import re

from thresher.errors import ConfigError

_ADDRESS = re.compile(r"(?:ray://)?(\[[0-9a-fA-F:.]+\]|[^\s:/]+):(\d{1,5})")
WORDS = ("auto", "local")  # a running cluster of this machine; a new one


def parse_address(text: str) -> tuple[str, int] | None:
    """Host and port of the cluster's head; None for "auto" and "local".

    Raises ConfigError for anything else.

    >>> parse_address("10.0.0.1:6379"), parse_address("ray://head:10001"), parse_address("local")
    (('10.0.0.1', 6379), ('head', 10001), None)
    """
    if text in WORDS:
        return None
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise ConfigError(
            ": expected HOST:PORT, such as 10.0.0.1:6379, ray://HOST:PORT, auto or local.",
            option="ray_address",
            value=text,
        )
    return found[1].strip("[]"), int(found[2])
