"""Public functions, methods and classes document every argument, in a section `Arguments:` or, as
numpydoc does, `Parameters`.

A method that implements a protocol, or overrides a method of a base class, is documented there.
Functions of one argument document it in their summary. A parameter that is an option of a command
is documented by the option's help text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import thresher

SOURCES = Path(thresher.__file__).parent
FEW = 2  # arguments from which a section is required
ELSEWHERE = re.compile(r"See `[\w.]+`")  # beginning of a docstring that refers to another
BY_DECORATOR = {"api.py select"}  # its section is generated from the fields of the request
OF_TRL = {"compute_loss", "create_model_card", "on_step_end", "on_save"}  # methods of its classes
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Public:
    """A public function, method, or class (its constructor)."""

    name: str  # of the module, and its own
    parameters: tuple[str, ...]
    docstring: str

    @property
    def missing(self) -> list[str]:
        """Parameters without an entry."""
        return [name for name in self.parameters if name not in documented(self.docstring)]


@pytest.fixture(scope="module", autouse=True)
def release_trees() -> Iterator[None]:
    """The trees are large: they live as long as the tests of this module."""
    yield
    parsed.cache_clear()
    classes.cache_clear()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def documented(docstring: str) -> set[str]:
    """Names with an entry in the section on arguments.

    >>> sorted(documented("A sum.\\n\\nArguments:\\n    a, b: numbers.\\n    c: another."))
    ['a', 'b', 'c']
    >>> sorted(documented("A sum.\\n\\nParameters\\n----------\\na, b : int\\n    Numbers."))
    ['a', 'b']
    """
    _, found, section = docstring.partition("Arguments:\n")
    pattern = re.compile(r"    (\w+(?:, \w+)*): \S")
    if not found:
        _, found, section = docstring.partition("Parameters\n----------\n")
        pattern = re.compile(r"(\w+(?:, \w+)*) : \S")
        section = section.partition("\n\n")[0]
    names: set[str] = set()
    for line in section.splitlines():
        if entry := pattern.match(line):
            names.update(entry[1].split(", "))
        elif line and not line.startswith(" "):
            break
    return names


def parameters(function: Function, *, method: bool) -> tuple[str, ...]:
    """Names of the parameters; those that begin with `_` are not used by the function."""
    a = function.args
    every = [p for p in (*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg) if p]
    static = any(ast.unparse(d) == "staticmethod" for d in function.decorator_list)
    own = every[1:] if method and not static else every
    return tuple(p.arg for p in own if not p.arg.startswith("_") and not has_help(p.annotation))


def has_help(annotation: ast.expr | None) -> bool:
    """Whether it is an option of a command with a help text: `Annotated`, or a name for that.

    `o.option(FIELD)` takes the help text from the request's field.

    >>> def of(text: str) -> bool:
    ...     return has_help(ast.parse(text, mode="eval").body)
    >>> of("Annotated[int, typer.Option('--rows', help='Size.')]"), of("o.Config"), of("int")
    (True, True, False)
    >>> of("Annotated[int, typer.Option('--rows')]"), of("Annotated[str, o.option('store')]")
    (False, True)
    """
    if isinstance(annotation, (ast.Name, ast.Attribute)):
        return ast.unparse(annotation) in shared_options()
    if not (isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated"):
        return False
    calls = (node for node in ast.walk(annotation) if isinstance(node, ast.Call))
    return any(
        ast.unparse(call.func) == "o.option" or any(k.arg == "help" for k in call.keywords)
        for call in calls
    )


@cache
def shared_options() -> set[str]:
    """Names of the options of several commands, in their module and outside it."""
    found = set()
    for path in (SOURCES / "cli").rglob("*.py"):
        for node in parsed(path).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Annotated["):
                names = {ast.unparse(target) for target in node.targets if has_help(node.value)}
                found |= names | {f"o.{name}" for name in names}
    return found


def is_checked(function: Function) -> bool:
    """Not private, not an overload."""
    decorators = {ast.unparse(d).split("(")[0] for d in function.decorator_list}
    return not function.name.startswith("_") and not decorators & {"overload", "override"}


def public(path: Path, inherited: set[str]) -> Iterator[Public]:
    """The public functions, classes and methods of a module.

    Arguments:
        path: of the module.
        inherited: methods that a protocol documents for all classes.
    """
    name = path.relative_to(SOURCES).as_posix()
    for node in parsed(path).body:
        if isinstance(node, Function) and is_checked(node):
            place = f"{name} {node.name}"
            yield Public(place, parameters(node, method=False), ast.get_docstring(node) or "")
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            docstring = ast.get_docstring(node) or ""
            overridden = inherited | base_methods(node)
            for inner in node.body:
                if not isinstance(inner, Function):
                    continue
                place = f"{name} {node.name}.{inner.name}"
                if inner.name == "__init__":
                    own = ast.get_docstring(inner) or docstring
                    yield Public(place, parameters(inner, method=True), own)
                elif is_checked(inner) and (is_protocol(node) or inner.name not in overridden):
                    yield Public(
                        place, parameters(inner, method=True), ast.get_docstring(inner) or ""
                    )


def is_protocol(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).split("[")[0] == "Protocol" for base in node.bases)


@cache
def classes() -> dict[str, list[ast.ClassDef]]:
    """All classes of the package, by name."""
    found: dict[str, list[ast.ClassDef]] = {}
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
    return found


def own_methods(node: ast.ClassDef) -> set[str]:
    return {f.name for f in node.body if isinstance(f, Function)}


def protocol_methods() -> set[str]:
    """Names of the methods of all protocols: implementations need not document them again."""
    every = (node for nodes in classes().values() for node in nodes)
    return set().union(*(own_methods(node) for node in every if is_protocol(node)))


def base_methods(node: ast.ClassDef) -> set[str]:
    """Names of the methods of its base classes in the package, and of theirs."""
    names = [ast.unparse(base).split("[")[0] for base in node.bases]
    bases = [base for name in names for base in classes().get(name, [])]
    return set().union(*(own_methods(base) | base_methods(base) for base in bases))


def is_required(item: Public) -> bool:
    other = item.name in BY_DECORATOR or item.name.rpartition(".")[2] in OF_TRL
    return len(item.parameters) >= FEW and not other and not ELSEWHERE.match(item.docstring)


def test_every_argument_is_documented() -> None:
    inherited, missing = protocol_methods(), []
    for path in sorted(SOURCES.rglob("*.py")):
        for item in public(path, inherited):
            if is_required(item) and item.missing:
                missing.append(f"{item.name}: {', '.join(item.missing)}")
    assert not missing, "\n".join(missing)


def test_no_entry_is_left_of_an_argument_that_was_renamed() -> None:
    """Entries of classes may also describe attributes, so only functions are checked."""
    inherited, left = protocol_methods(), []
    for path in sorted(SOURCES.rglob("*.py")):
        for item in public(path, inherited):
            unknown = documented(item.docstring) - set(item.parameters)
            left += [f"{item.name}: {name}" for name in sorted(unknown)]
    assert not left, "\n".join(left)
