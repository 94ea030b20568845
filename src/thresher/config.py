"""What a run is told: one frozen `RunConfig`, from the command line, from a YAML file, or from both (flags win).

The file is either what a user wrote (`method: clipper`, `budget: 30%` …) or the `run.yaml` of an earlier run, whose
`config` section has the same keys; so `thresher select --config out/run.yaml` replays it. Reads YAML files only.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thresher.errors import ConfigError, nearest

ON_MISSING = ("auto", "exclude", "refuse")
DTYPES = ("auto", "float32", "bfloat16", "float16")
_DEVICE = re.compile(r"auto|cpu|mps|(cuda|xpu|npu|hpu)(:\d+)?")


@dataclass(frozen=True)
class RunConfig:
    """All that `select` and `plan` need. Paths are as the user wrote them: relative ones start where the command runs."""

    pool: str = ""
    """A LLaVA JSON or JSONL file."""
    images: str | None = None
    """The folder in which relative image paths start; None = the folder of the pool file."""
    method: str = ""
    """A name from `thresher methods`."""
    budget: str = ""
    """`30%` of the pool, or a number of rows."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The method's own parameters, as text; the method parses them by type."""
    model: str | None = None
    """`demo`, a folder or a hub id; None = `demo` where the method needs a model."""
    seed: int = 0
    """Chooses among equals and splits; another seed reuses all scores that do not depend on it."""
    store: str | None = None
    """Where scores are kept; None = the user's cache folder."""
    on_missing: str = "auto"
    """What happens to rows that cannot be scored: exclude up to 5% of the pool (auto), exclude, or refuse."""
    retry_errors: bool = False
    """Score rows again whose stored result is an error."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps` …"""
    dtype: str = "auto"
    """`auto`, `float32`, `bfloat16` or `float16`. Part of a score's identity."""
    batch_tokens: int | None = None
    """Tokens per forward pass; None = chosen for the device. Not part of a score's identity."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Taken from the command line only, never from a file."""
    out: str | None = None
    """The folder that the selection is written to."""

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, in the order of the fields, without those that are unset: the `config` section of run.yaml."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["settings"] = dict(self.settings)
        return {k: v for k, v in values.items() if v is not None}


def read(path: str | Path) -> dict[str, Any]:
    """The values that a config file gives, checked for names and types. Raises ConfigError."""
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"--config {path}: there is no such file.") from None
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"--config {path} cannot be read: {e}.") from e
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(e, "problem", None) or "it cannot be parsed"
        raise ConfigError(f"--config {path}{where} is not valid YAML: {problem}.") from e
    if isinstance(given, dict) and isinstance(given.get("config"), dict):
        given = given["config"]
    if not isinstance(given, dict):
        raise ConfigError(f"--config {path}: expected lines of `key: value` such as `method: clipper`.")
    return {
        str(key): _checked(f"--config {path}", str(key), value) for key, value in given.items() if value is not None
    }


def _checked(where: str, key: str, value: Any) -> Any:
    """One value from a file in its field's type."""
    known = {f.name: str(f.type) for f in dataclasses.fields(RunConfig)}
    if key not in known:
        raise ConfigError(f"{where}: unknown key {key!r}.{nearest(key, list(known))} Known: {', '.join(known)}.")
    kind = known[key]
    if key == "settings":
        if not isinstance(value, dict) or any(isinstance(v, (dict, list)) for v in value.values()):
            raise ConfigError(f"{where}: settings must be lines of `key: value`, one a setting.")
        return {str(k): _text(v) for k, v in value.items()}
    if kind.startswith("bool"):
        if not isinstance(value, bool):
            raise ConfigError(f"{where}: {key} must be true or false, not {value!r}.")
        return value
    if kind.startswith("int"):
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(f"{where}: {key} must be a whole number, not {value!r}.")
        return value
    if isinstance(value, (dict, list)):
        raise ConfigError(f"{where}: {key} must be one value, not {value!r}.")
    return _text(value)


def _text(value: Any) -> str:
    """A YAML scalar as the command line would have spelled it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)


def parse_settings(words: list[str]) -> dict[str, str]:
    """`["where=top", "bins=20 prefer=none"]` -> a mapping. Raises ConfigError.

    >>> parse_settings(["where=top", "bins=20 prefer=none"])
    {'where': 'top', 'bins': '20', 'prefer': 'none'}
    """
    out: dict[str, str] = {}
    for word in (piece for text in words for piece in text.split()):
        key, equals, value = word.partition("=")
        if not equals or not key or not value:
            raise ConfigError(f"--set {word}: expected key=value, for example --set where=middle.")
        if key in out and out[key] != value:
            raise ConfigError(f"--set {key} is given twice: {out[key]} and {value}.")
        out[key] = value
    return out


def combine(file: Mapping[str, Any], flags: Mapping[str, Any]) -> RunConfig:
    """File values, overridden by the flags that were given (a flag that is None was not); settings are joined by key.

    Raises ConfigError for what is missing or out of range, and for a file that asks for remote code by itself.
    """
    given = {k: v for k, v in flags.items() if v is not None}
    if file.get("trust_remote_code") and "trust_remote_code" not in given:
        raise ConfigError(
            "The config file says trust_remote_code: true. Code that comes with a model runs only when the command "
            "says so itself: add --trust-remote-code if you trust it, or take the line out of the file."
        )
    settings = {**file.get("settings", {}), **given.get("settings", {})}
    if "method" in given and given["method"] != file.get("method", given["method"]):
        settings = dict(given.get("settings", {}))  # another method's settings mean nothing to this one
    config = RunConfig(**{**file, **given, "settings": settings})
    for name, choices in (("on_missing", ON_MISSING), ("dtype", DTYPES)):
        value = getattr(config, name)
        if value not in choices:
            flag = "--" + name.replace("_", "-")
            raise ConfigError(f"{flag} {value}: expected one of {', '.join(choices)}.{nearest(value, list(choices))}")
    check_device(config.device)
    if config.batch_tokens is not None and config.batch_tokens < 1:
        raise ConfigError(f"--batch-tokens {config.batch_tokens}: expected a number of tokens, at least 1.")
    if config.seed < 0:
        raise ConfigError(f"--seed {config.seed}: expected 0 or more.")
    return config


def check_device(device: str) -> None:
    """Raises ConfigError for what is no device's name anywhere; whether it is there shows when the model is resolved."""
    if not _DEVICE.fullmatch(device):
        known = ["auto", "cpu", "cuda", "mps"]
        raise ConfigError(f"--device {device}: expected cpu, cuda, cuda:1 or mps.{nearest(device, known)}")


def require(config: RunConfig, *names: str) -> None:
    """Raises ConfigError naming what was given neither on the command line nor in a file."""
    help_for = {
        "pool": "POOL (a LLaVA JSON or JSONL file)",
        "method": "--method (see `thresher methods`)",
        "budget": "--budget (such as 30%, or a number of rows)",
        "out": "--out (a folder for the selection)",
    }
    missing = [help_for[name] for name in names if not getattr(config, name)]
    if missing:
        raise ConfigError(f"Missing: {', '.join(missing)}. Give it in the command or in a --config file.")


def default_store() -> Path:
    """$THRESHER_STORE, else `thresher` in the user's cache folder ($XDG_CACHE_HOME or ~/.cache)."""
    import os

    if chosen := os.environ.get("THRESHER_STORE"):
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "thresher"
