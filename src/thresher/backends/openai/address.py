"""A server's URL and model name from what the user typed, and the API key from the environment.

No message of this module shows a key, a password, or anything that could be one.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from thresher.backends.openai.options import KEY_VARIABLE
from thresher.errors import ConfigError, opt


@dataclass(frozen=True)
class Address:
    """base: the URL without a trailing slash, such as http://127.0.0.1:8000/v1. model: "" if none
    is named."""

    base: str
    model: str

    @property
    def root(self) -> str:
        """The URL without /v1, where vLLM has what is not OpenAI's."""
        return self.base.removesuffix("/v1")

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        host = urlsplit(self.base).hostname or ""
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def parse(spec: str) -> Address:
    """Parse `http://host:port/v1#NAME`, or the same without `#NAME`.

    A URL without a path gets /v1. Raises ConfigError.

    >>> parse("http://127.0.0.1:8000#org/name@1")
    Address(base='http://127.0.0.1:8000/v1', model='org/name@1')
    """
    where, _, model = spec.partition("#")
    try:
        parts = urlsplit(where)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(
            "The server's URL cannot be read. Expected one such as http://127.0.0.1:8000/v1."
        ) from None
    if "@" in parts.netloc:
        raise ConfigError(
            f"The server's URL contains a user name or password (before the @ of {host}). "
            f"Remove it: a key comes from the environment variable {KEY_VARIABLE}, or from the "
            f"one that {opt('api_key_env')} names."
        )
    if parts.query:
        raise ConfigError(
            f"The URL of the server {host} has a query (the part after the ?). Remove it: "
            "only the URL up to /v1 is needed, and a key comes from the environment variable "
            f"{KEY_VARIABLE}."
        )
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise ConfigError(
            f"{where} is not a server's URL. Expected one such as http://127.0.0.1:8000/v1."
        )
    shown = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/")
    for end in ("/chat/completions", "/embeddings"):
        path = path.removesuffix(end)
    path = path.rstrip("/") or "/v1"
    return Address(
        f"{parts.scheme.lower()}://{shown}{'' if port is None else f':{port}'}{path}", model.strip()
    )


def read_key(variable: str | None) -> str | None:
    """Read the API key.

    Arguments:
        variable: name of the environment variable; None: OPENAI_API_KEY.

    Returns None if no variable is named and OPENAI_API_KEY is not set. Raises ConfigError, which
    never shows the key, nor `variable`: people paste the key where its name belongs.
    """
    if variable is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
        raise ConfigError(
            " takes the name of an environment variable, such as MY_KEY. What was "
            "given is not such a name (it is not shown here, in case it is the key itself).",
            option="api_key_env",
        )
    key = os.environ.get(variable or KEY_VARIABLE, "").strip()
    if not key and variable is not None:
        raise ConfigError(
            f"The environment variable that {opt('api_key_env')} names is not set or empty (its "
            "name is not shown here, in case it is the key itself). Put the key there, or leave "
            "the option out for a server that needs none."
        )
    if key and not re.fullmatch(r"[\x21-\x7e]+", key):
        where = f"the variable that {opt('api_key_env')} names" if variable else KEY_VARIABLE
        raise ConfigError(
            f"The key in {where} "
            "contains white space or other characters that no key has. Copy it again."
        )
    return key or None
