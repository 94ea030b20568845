"""The scripts of ../shared/reference/families, which build tiny models of further families and
check this package against a slow reference, find the names that they import."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import reference_names
from thresher.backends.hf.backend import HFBackend
from thresher.backends.hf.forward import Forward

SCRIPTS = Path(__file__).resolve().parents[1] / "../shared/reference/families"
# They replace methods of a former version of the backend, to try changes that it has since got.
PROTOTYPES = {"gemma_fix.py", "gemma4_fix.py", "separator_trl.py"}

pytestmark = pytest.mark.skipif(
    not SCRIPTS.is_dir(), reason="../shared/reference is not beside this checkout"
)


def used_names(script: Path) -> Iterator[tuple[str, str]]:
    """Each name that a script takes from this repository, as (module, name)."""
    tree = ast.parse(script.read_text("utf-8"))
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module.split(".")[0] in ("tests", "thresher"):
                yield from ((node.module, alias.name) for alias in node.names)
            if node.module == "tests":
                modules |= {a.asname or a.name: f"tests.{a.name}" for a in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            yield from [(module, node.attr)] if module else []


def test_the_names_that_the_scripts_import_are_here() -> None:
    scripts = [s for s in sorted(SCRIPTS.glob("*.py")) if s.name not in PROTOTYPES]
    used = {(module, name) for script in scripts for module, name in used_names(script)}
    assert ("tests.tiny_models", "_Words") in used and ("tests.tiny_models", "_save") in used
    missing = []
    for module, name in sorted(used):
        held = importlib.import_module(module)
        if not hasattr(held, name):
            try:
                importlib.import_module(f"{module}.{name}")
            except ModuleNotFoundError:
                missing.append(f"{module}.{name}")
    assert not missing


@pytest.mark.parametrize("owner", [HFBackend, Forward])
def test_how_queries_run_has_its_former_name(owner: type) -> None:
    reference_names.install()
    assert isinstance(owner.__dict__["asks"], property)
