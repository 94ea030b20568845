"""Import graph of the package: finds import cycles.

    python tools/import_graph.py             # counts, and each cycle
    python tools/import_graph.py --edges A B # imports from package A to package B

All imports count: at the top of a module, inside a function (lazy) and under `TYPE_CHECKING`. Exit
status 1 if there is a cycle. Reads source files only; imports nothing of the package.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "src"
PACKAGE = "thresher"


@dataclass(frozen=True)
class Import:
    """One import statement: `importer` uses `imported` (both module names) at `line`."""

    importer: str
    imported: str
    line: int


def modules(root: Path = ROOT, package: str = PACKAGE) -> dict[str, Path]:
    """Module name -> file, for every module of `package` under `root`, by name."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(known: dict[str, Path]) -> Iterator[Import]:
    """All imports between modules in `known`; a name is resolved to its own module instead of its
    package if possible."""
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parent = name if path.name == "__init__.py" else name.rpartition(".")[0]
                    up = parent.split(".")[: len(parent.split(".")) - node.level + 1]
                    base = ".".join([*up, *([node.module] if node.module else [])])
                inner = [f"{base}.{alias.name}" for alias in node.names]
                targets = [t if t in known else base for t in inner]
            else:
                continue
            for target in targets:
                while target and target not in known:
                    target = target.rpartition(".")[0]
                if target and target != name:
                    yield Import(name, target, node.lineno)


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of two and more nodes, largest first (Tarjan, iterative)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[list[str]] = []
    for start in sorted(edges):
        if start in index:
            continue
        work = [(start, iter(sorted(edges[start])))]
        index[start] = low[start] = len(index)
        stack.append(start)
        on_stack.add(start)
        while work:
            node, successors = work[-1]
            for successor in successors:
                if successor not in index:
                    index[successor] = low[successor] = len(index)
                    stack.append(successor)
                    on_stack.add(successor)
                    work.append((successor, iter(sorted(edges.get(successor, ())))))
                    break
                if successor in on_stack:
                    low[node] = min(low[node], index[successor])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        component.append(member)
                        if member == node:
                            break
                    if len(component) > 1:
                        found.append(sorted(component))
    return sorted(found, key=lambda c: (-len(c), c))


def package_of(module: str) -> str:
    """The child of the root package that a module belongs to: `thresher.pools.pool` -> `pools`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--edges", nargs=2, metavar=("FROM", "TO"), help="list imports between packages"
    )
    options = parser.parse_args(arguments)
    known = modules()
    found = sorted(set(imports(known)), key=lambda i: (i.importer, i.line, i.imported))
    if options.edges:
        for i in found:
            if (package_of(i.importer), package_of(i.imported)) == tuple(options.edges):
                print(f"{known[i.importer].relative_to(ROOT.parent)}:{i.line} imports {i.imported}")
        return 0
    by_module: dict[str, set[str]] = {name: set() for name in known}
    by_package: dict[str, set[str]] = {package_of(name): set() for name in known}
    for i in found:
        by_module[i.importer].add(i.imported)
        if package_of(i.importer) != package_of(i.imported):
            by_package[package_of(i.importer)].add(package_of(i.imported))
    total = 0
    for what, edges in (("modules", by_module), ("packages", by_package)):
        tied = circles(edges)
        total += len(tied)
        count = sum(len(targets) for targets in edges.values())
        print(f"{len(edges)} {what}, {count} imports, {len(tied)} circles")
        for component in tied:
            print(f"  {len(component)}: {', '.join(component)}")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
