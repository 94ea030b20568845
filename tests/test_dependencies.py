"""pyproject.toml declares every package that the code imports."""

from __future__ import annotations

import ast
import functools
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "thresher"
DISTRIBUTIONS = {"PIL": "pillow", "mlflow": "mlflow-skinny", "yaml": "pyyaml"}
"""Import name -> name of the distribution, where they differ."""


@functools.cache
def declared() -> set[str]:
    """Names of the dependencies of the core and of all extras that users install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]

    def names(lines: list[str]) -> set[str]:
        return {canonicalize_name(Requirement(line).name) for line in lines} - {"thresher"}

    ours = [lines for extra, lines in extras.items() if extra not in ("test", "dev", "slow")]
    return names(project["dependencies"]).union(*(names(lines) for lines in ours))


def imported(path: Path) -> Iterator[str]:
    """Top-level packages that a file imports, but for type checking only."""
    waiting: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        # no expression has an import inside
        waiting += [n for n in ast.iter_child_nodes(node) if not isinstance(n, ast.expr)]


def foreign(packages: Iterator[str]) -> set[str]:
    """Names of the distributions of `packages`, without Python's own and ours."""
    own = {*sys.stdlib_module_names, "thresher", "__future__"}
    return {canonicalize_name(DISTRIBUTIONS.get(p, p)) for p in packages if p not in own}


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda p: str(p.relative_to(SRC)))
def test_every_import_is_declared(path: Path) -> None:
    assert foreign(imported(path)) <= declared()
