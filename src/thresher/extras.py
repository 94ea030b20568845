"""Optional packages: which ones an extra brings, whether they are installed, and whether in tested versions.

The core needs neither torch nor transformers, so that it fits into any trainer's environment. A command calls
`require` before it does any work. Bounds are read from the installed package's own metadata (pyproject.toml is their
only source); a source tree that was never installed has none, and only the presence of packages is checked there.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from thresher.errors import MissingExtra

_HF = ("torch", "transformers", "tokenizers", "safetensors", "huggingface_hub")
MODULES: dict[str, tuple[str, ...]] = {
    "hf": _HF,
    "train": (*_HF, "accelerate", "datasets", "peft", "trl"),
    "duplicates": ("rensa", "imagehash"),
    "retrieval": ("bm25s",),
    "view": ("starlette", "uvicorn"),
    "remote": ("fsspec",),
    "hub": ("datasets",),
}
"""Extra -> the modules that it brings, by the names under which they are imported."""


class UntestedVersion(UserWarning):
    """A package is newer than the versions that thresher was tested with."""


@dataclass(frozen=True)
class Misfit:
    """An installed package outside the bounds of an extra. `old`: below the lower bound."""

    name: str
    version: str
    bounds: str
    old: bool


def install(extra: str) -> str:
    """The command that installs an extra.

    >>> install("hf")
    'pip install "thresher[hf]"'
    """
    return f'pip install "thresher[{extra}]"'


def missing(extra: str) -> list[str]:
    """The modules of an extra that are not installed."""
    return [name for name in MODULES[extra] if not _importable(name)]


def require(extra: str, what: str) -> None:
    """Check that `extra` is installed. `what`: the subject of the message, such as "--dedup near".

    Raises MissingExtra where a package is missing or older than any tested version; warns with UntestedVersion, once
    for each package, where one is newer.
    """
    lacking = missing(extra)
    if lacking:
        verb = "is" if len(lacking) == 1 else "are"
        raise MissingExtra(f"{what} needs {', '.join(lacking)}, which {verb} not installed: {install(extra)}")
    found = misfits(extra)
    for one in found:
        if one.old:
            raise MissingExtra(
                f"{what} needs {one.name} {one.bounds}, and {one.version} is installed, which is too old. Upgrade it "
                f"({install(extra)}), or give thresher an environment of its own: uv tool install "
                f'"thresher[{extra}]".'
            )
    for one in found:
        _warn(one)


def check_models(named: Iterable[tuple[str, str]]) -> None:
    """Check that models can run here. `named`: each model as the user named it, and the words for it in a message; those
    behind servers need no extra. Raises MissingExtra.
    """
    for spec, typed in named:
        if not spec.lower().startswith(("http://", "https://")):
            require("hf", f"{typed} is a model that runs here, which")


def untested() -> list[str]:
    """A sentence for each package that is loaded now and newer than the tested versions."""
    return [
        _untested(one)
        for extra in ("hf", "train")
        if "transformers" in sys.modules or "trl" in sys.modules
        for one in misfits(extra)
        if not one.old
    ]


@cache
def misfits(extra: str) -> tuple[Misfit, ...]:
    """Installed packages that are outside the bounds of `extra`."""
    out = []
    for requirement in _requirements(extra):
        try:
            installed = metadata.version(requirement.name)
            version = Version(installed)
        except (metadata.PackageNotFoundError, InvalidVersion):
            continue  # whether it can be imported was looked at already; an odd version cannot be judged
        if requirement.specifier.contains(version, prereleases=True):
            continue
        lower = [s for s in requirement.specifier if s.operator in (">=", ">", "==", "~=")]
        old = any(not s.contains(version, prereleases=True) for s in lower)
        out.append(Misfit(requirement.name, installed, str(requirement.specifier), old))
    return tuple(out)


def _requirements(extra: str) -> list[Requirement]:
    """What the metadata of the installed thresher says about an extra, those that it builds on included."""
    try:
        stated = [Requirement(text) for text in metadata.requires("thresher") or []]
    except metadata.PackageNotFoundError:
        return []
    found: list[Requirement] = []
    for requirement in stated:
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.name == "thresher":
            found += [inner for further in sorted(requirement.extras) for inner in _requirements(further)]
        else:
            found.append(requirement)
    return found


@cache
def _warn(one: Misfit) -> None:
    """Once for each package, however often it is asked for."""
    warnings.warn(_untested(one), UntestedVersion, stacklevel=3)


def _untested(one: Misfit) -> str:
    return (
        f"{one.name} {one.version} is newer than thresher was tested with ({one.bounds}). If something fails or numbers look wrong: "
        f'pip install "{one.name}{one.bounds}".'
    )


def _importable(name: str) -> bool:
    """Whether `import name` would find a module; nothing is imported."""
    if name in sys.modules:
        return sys.modules[name] is not None
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
