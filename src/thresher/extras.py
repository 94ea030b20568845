"""Optional dependencies: what each extra contains, and whether it is installed in tested versions.

The core needs neither torch nor transformers, so that it fits into any training environment. A
command calls `require` before it does any work. Version bounds are read from the installed
package's own metadata (pyproject.toml is their only source); a source tree that was never installed
has none, and then only the presence of packages is checked.
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
    "video": ("av",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "tensorboard": ("tensorboard",),
    "ray": ("ray",),
    "vllm": ("vllm",),
}
"""Extra -> its modules, by import name."""

# installed beside the extra `hf`, it would replace torch and transformers by older versions
_ALONE = " in an environment of its own, since vLLM pins other versions of torch and transformers."


class UntestedVersion(UserWarning):
    """A package is newer than the versions that thresher was tested with."""


@dataclass(frozen=True)
class VersionMismatch:
    """An installed package outside an extra's version bounds. `old`: below the lower bound."""

    name: str
    version: str
    bounds: str
    old: bool


def install_command(extra: str) -> str:
    """The command that installs an extra.

    >>> install_command("hf")
    'pip install "thresher[hf]"'
    """
    return f'pip install "thresher[{extra}]"'


def missing_modules(extra: str) -> list[str]:
    """The modules of an extra that are not installed."""
    return [name for name in MODULES[extra] if not _importable(name)]


def is_usable(extra: str) -> bool:
    """Whether the packages of an extra are installed and none is too old: `require` passes."""
    return not missing_modules(extra) and not any(one.old for one in version_mismatches(extra))


def require(extra: str, what: str) -> None:
    """Check that `extra` is installed.

    Warns with UntestedVersion, once per package, if one is newer than tested.

    Arguments:
        extra: a key of `MODULES`.
        what: the subject of the message, such as "--dedup near".

    Raises MissingExtra if a package is missing or too old.
    """
    lacking = missing_modules(extra)
    if lacking:
        verb = "is" if len(lacking) == 1 else "are"
        raise MissingExtra(
            f"{what} needs {', '.join(lacking)}, which {verb} not installed: "
            f"{install_command(extra)}{_ALONE if extra == 'vllm' else ''}"
        )
    found = version_mismatches(extra)
    for one in found:
        if one.old:
            raise MissingExtra(
                f"{what} needs {one.name} {one.bounds}, and {one.version} is installed, which is "
                f"too old. Upgrade it ({install_command(extra)}), or give thresher an environment "
                "of its own: uv tool install "
                f'"thresher[{extra}]".'
            )
    for one in found:
        _warn(one)


def check_models(named: Iterable[tuple[str, str]], extra: str = "hf") -> None:
    """Check that models can run locally. Models behind servers need no extra.

    Arguments:
        named: pairs of the model as the user named it and a phrase for it in messages.
        extra: of what runs them: hf or vllm.

    Raises MissingExtra.
    """
    here = "that runs here" if extra == "hf" else "that vLLM is to run"
    for spec, typed in named:
        if not spec.lower().startswith(("http://", "https://")):
            require(extra, f"{typed} is a model {here}, which")


def untested_versions() -> list[str]:
    """A sentence for each loaded package that is newer than the tested versions."""
    return [
        _untested(one)
        for extra in ("hf", "train")
        if "transformers" in sys.modules or "trl" in sys.modules
        for one in version_mismatches(extra)
        if not one.old
    ]


@cache
def version_mismatches(extra: str) -> tuple[VersionMismatch, ...]:
    """Installed packages outside the version bounds of `extra`."""
    out = []
    for requirement in _requirements(extra):
        try:
            installed = metadata.version(requirement.name)
            version = Version(installed)
        except (metadata.PackageNotFoundError, InvalidVersion):
            # `missing_modules` reports absent packages; an invalid version cannot be compared
            continue
        if requirement.specifier.contains(version, prereleases=True):
            continue
        lower = [s for s in requirement.specifier if s.operator in (">=", ">", "==", "~=")]
        old = any(not s.contains(version, prereleases=True) for s in lower)
        out.append(VersionMismatch(requirement.name, installed, str(requirement.specifier), old))
    return tuple(out)


def _requirements(extra: str) -> list[Requirement]:
    """Requirements of an extra from thresher's metadata, including those of extras it builds on."""
    try:
        stated = [Requirement(text) for text in metadata.requires("thresher") or []]
    except metadata.PackageNotFoundError:
        return []
    found: list[Requirement] = []
    for requirement in stated:
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.name == "thresher":
            found += [
                inner for further in sorted(requirement.extras) for inner in _requirements(further)
            ]
        else:
            found.append(requirement)
    return found


@cache
def _warn(one: VersionMismatch) -> None:
    """Warn once per package."""
    warnings.warn(_untested(one), UntestedVersion, stacklevel=3)


def _untested(one: VersionMismatch) -> str:
    return (
        f"{one.name} {one.version} is newer than thresher was tested with ({one.bounds}). If "
        f'something fails or numbers look wrong: pip install "{one.name}{one.bounds}".'
    )


def _importable(name: str) -> bool:
    """Whether `import name` would find a module; nothing is imported."""
    if name in sys.modules:
        return sys.modules[name] is not None
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
