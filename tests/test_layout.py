"""Layout of the tests: folders mirror src/thresher, shared helpers are separate modules, and there
is one table of tiny models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
FILES = sorted(TESTS.rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    """The modules of `tests` that a file imports or names, also in programs that it holds as
    texts."""
    text = file.read_text("utf-8")
    yield from re.findall(r"\btests\.[\w.]*\w", text)
    yield from (f"tests.{name}" for name in re.findall(r"from tests import (\w+)", text))


@pytest.mark.parametrize(
    "folder", sorted({f.parent.relative_to(TESTS).as_posix() for f in FILES} - {"."})
)
def test_folders_mirror_packages(folder: str) -> None:
    assert (ROOT / "src/thresher" / folder).is_dir() or folder in ("benchmarks", "tools")


def test_helpers_are_used_and_are_no_test_modules() -> None:
    files = [*FILES, *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
    used = {name: file for file in files for name in imported(file)}
    of_others = {
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in imported(file)
        if re.search(r"\.(test_\w+|conftest)$", name)
        and name != ".".join(file.relative_to(ROOT).with_suffix("").parts)
    }
    assert not of_others, of_others
    helpers = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in FILES
        if not re.match(r"test_|conftest|__init__", file.stem)
    }
    assert len(helpers) > 15 and not helpers - used.keys(), helpers - used.keys()


def test_models_are_built_in_one_place() -> None:
    """A class of transformers that is called makes a model with new weights."""
    made = {
        file.relative_to(ROOT).as_posix()
        for file in FILES
        if re.search(r"For(ConditionalGeneration|CausalLM)\(", file.read_text("utf-8"))
    }
    assert made == {"tests/tiny_families.py", "tests/tiny_models.py"}
