"""The package has no import cycle between modules or packages, type-only and lazy imports
included."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parent.parent / "tools" / "import_graph.py"


@pytest.fixture(scope="module")
def import_graph() -> ModuleType:
    spec = importlib.util.spec_from_file_location("import_graph", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def graphs(
    tool: ModuleType, known: dict[str, Path]
) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """(module -> modules that it imports, package -> packages that it imports)."""
    by_module: dict[str, set[str]] = {name: set() for name in known}
    by_package: dict[str, set[str]] = {tool.package_of(name): set() for name in known}
    for edge in tool.imports(known):
        by_module[edge.importer].add(edge.imported)
        importer, imported = tool.package_of(edge.importer), tool.package_of(edge.imported)
        if importer != imported:
            by_package[importer].add(imported)
    return by_module, by_package


def test_no_import_cycle(import_graph: ModuleType) -> None:
    by_module, by_package = graphs(import_graph, import_graph.modules())
    # the tool has found the package
    assert len(by_module) > 300 and sum(map(len, by_module.values())) > 1000
    assert import_graph.circles(by_module) == []
    assert import_graph.circles(by_package) == []


@pytest.mark.parametrize(
    "back",
    [
        "from thresher.a.one import x\n",
        "def f():\n    from ..a import one\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import thresher.a.one\n",
    ],
    ids=["plain", "lazy-relative", "type-only"],
)
def test_all_kinds_of_imports_are_counted(
    import_graph: ModuleType, tmp_path: Path, back: str
) -> None:
    for path, text in {
        "__init__.py": "",
        "a/__init__.py": "",
        "a/one.py": "from thresher.b import two\n",
        "b/__init__.py": "",
        "b/two.py": back,
    }.items():
        file = tmp_path / "thresher" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    by_module, by_package = graphs(import_graph, import_graph.modules(tmp_path))
    assert import_graph.circles(by_module) == [["thresher.a.one", "thresher.b.two"]]
    assert import_graph.circles(by_package) == [["a", "b"]]
