"""Optional packages: absent, too old, newer than tested."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from importlib import metadata
from types import ModuleType

import pytest
import typer

from thresher import extras
from thresher.cli.guard import handle_errors
from thresher.errors import MissingExtra

STATED = [
    "numpy>=2.0",
    'bm25s<0.4,>=0.3; extra == "retrieval"',
    'trl<1.17,>=1.10; extra == "train"',
    'thresher[hf]; extra == "train"',
    'transformers<5.25,>=5.18; extra == "hf"',
    'torch>=2.13; extra == "hf"',
]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Versions that seem to be installed: change them before the first question."""
    versions = {"bm25s": "0.3.16", "trl": "1.16.0", "transformers": "5.24.0", "torch": "2.13.0+cpu"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(extras.metadata, "requires", lambda name: STATED)
    monkeypatch.setattr(extras.metadata, "version", version)
    monkeypatch.setattr(
        extras, "MODULES", {"hf": ("sys",), "train": ("sys",), "retrieval": ("sys", "os")}
    )
    extras.version_mismatches.cache_clear()
    extras._warn.cache_clear()
    yield versions
    extras.version_mismatches.cache_clear()
    extras._warn.cache_clear()


def test_tested_versions_give_no_warning(installed: dict[str, str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for extra in ("hf", "train", "retrieval"):
            extras.require(extra, "this")


@pytest.mark.parametrize(
    ("extra", "name", "version"),
    [
        ("hf", "transformers", "5.6.2"),
        ("train", "trl", "0.29.1"),
        ("train", "transformers", "4.57.0"),
        ("hf", "torch", "2.9.0"),
    ],
)
def test_an_old_version_is_refused(
    installed: dict[str, str], extra: str, name: str, version: str
) -> None:
    installed[name] = version
    with pytest.raises(
        MissingExtra,
        match=rf"this needs {name} .*{version} is installed, which "
        r"is too old",
    ) as caught:
        extras.require(extra, "this")
    assert f'uv tool install "thresher[{extra}]"' in str(caught.value)


@pytest.mark.parametrize(
    ("extra", "name", "version"),
    [
        ("hf", "transformers", "5.25.0"),
        ("hf", "transformers", "6.0.0.dev0"),
        ("train", "trl", "2.0.0"),
        ("retrieval", "bm25s", "0.4"),
    ],
)
def test_newer_version_warns_once(
    installed: dict[str, str], extra: str, name: str, version: str
) -> None:
    installed[name] = version
    with pytest.warns(
        extras.UntestedVersion, match=f"{name} {version} is newer than thresher was tested with"
    ):
        extras.require(extra, "this")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extras.require(extra, "that")


@pytest.mark.parametrize("name", ["rensa", "imagehash"])
def test_a_missing_package_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        MissingExtra,
        match=rf"^this needs {name}, which is not installed: pip "
        r'install "thresher\[dupl',
    ):
        extras.require("duplicates", "this")


def test_several_missing_packages_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "MODULES", {"view": ("no_such_module", "sys", "nor_this")})
    with pytest.raises(MissingExtra, match="no_such_module, nor_this, which are not installed"):
        extras.require("view", "this")


def test_a_source_tree_that_was_not_installed_has_no_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(extras.metadata, "requires", nothing)
    extras.version_mismatches.cache_clear()
    try:
        assert extras.version_mismatches("hf") == ()
    finally:
        extras.version_mismatches.cache_clear()


# ------------------------------------------------------------------------------ on the command line


@handle_errors
def breaks() -> None:
    extras.require("hf", "this")
    raise AttributeError("'Cache' object has no attribute 'crop'\nmore lines")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", ModuleType("transformers"))


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("version", ["5.25.0", "6.1"])
def test_failure_with_an_untested_version_is_a_message(
    installed: dict[str, str],
    version: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed["transformers"] = version
    with pytest.raises(typer.Exit) as stop:
        breaks()
    assert stop.value.exit_code == 1
    note, error = capsys.readouterr().err.strip().splitlines()
    assert note.startswith(f"Note: transformers {version} is newer")
    assert error.startswith(
        "Error: AttributeError: 'Cache' object has no attribute 'crop'. transformers"
    )
    assert 'pip install "transformers<5.25,>=5.18"' in error and "THRESHER_TRACEBACK=1" in error
    monkeypatch.setenv("THRESHER_TRACEBACK", "1")
    with pytest.raises(AttributeError):
        breaks()


@pytest.mark.usefixtures("loaded", "installed")
def test_failure_with_tested_versions_is_a_bug(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(AttributeError):
        breaks()
    assert "a bug in thresher" in capsys.readouterr().err


@pytest.mark.usefixtures("loaded")
def test_other_warnings_are_shown_as_before(installed: dict[str, str]) -> None:
    @handle_errors
    def warns() -> None:
        warnings.warn("something else", RuntimeWarning, stacklevel=1)

    with pytest.warns(RuntimeWarning, match="something else"):
        warns()
