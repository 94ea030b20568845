"""The fields of a request, read off its class: name, type, default, and the docstring below each.

The command line, the YAML keys and the Python API are generated from them, also for a subclass that
adds fields.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

# of classes that were read: every option of a command asks
_FIELDS: dict[type, dict[str, RequestField]] = {}
_DOCS: dict[type, dict[str, str]] = {}


@dataclass(frozen=True)
class Option:
    """How a field is an option of the command line: metadata of its type (`Annotated`).

    metavar: the placeholder for its value in --help.
    panel: the heading in --help that it is listed under; "": the first one.
    flag: its name; "": that of the field, with hyphens.
    short: a second name of one letter, such as "-m".
    commands: the commands that have it.
    help: its help text where that of Python does not fit; "": the first paragraph of the docstring.
    """

    metavar: str = ""
    panel: str = ""
    flag: str = ""
    short: str = ""
    commands: tuple[str, ...] = ("select", "plan")
    help: str = ""


@dataclass(frozen=True)
class RequestField:
    """One field. `type` is str, int, float, bool, tuple (of texts) or dict (of texts)."""

    name: str
    type: type
    choices: tuple[str, ...]
    default: Any
    option: Option

    @property
    def flag(self) -> str:
        """The name of its option, such as `--on-missing`."""
        return self.option.flag or "--" + self.name.replace("_", "-")


def fields_of(cls: type) -> dict[str, RequestField]:
    """The fields of a request class by name, in the order of their definition."""
    if cls not in _FIELDS:
        _FIELDS[cls] = _fields(cls)
    return _FIELDS[cls]


def _fields(cls: type) -> dict[str, RequestField]:
    hints = typing.get_type_hints(cls, include_extras=True)
    out = {}
    for f in dataclasses.fields(cls):
        hint, option = hints[f.name], Option()
        if get_origin(hint) is Annotated:
            hint, option = get_args(hint)[0], get_args(hint)[1]
        if get_origin(hint) in (typing.Union, types.UnionType):
            (hint,) = (a for a in get_args(hint) if a is not type(None))
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        kind = str if choices else get_origin(hint) or hint
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        kind = kind if kind in (str, int, float, bool, tuple) else dict
        out[f.name] = RequestField(f.name, kind, choices, default, option)
    return out


def docs_of(cls: type) -> dict[str, str]:
    """The docstring below each field, without line breaks inside its paragraphs. The first
    paragraph is the help text of the option."""
    if cls not in _DOCS:
        _DOCS[cls] = _docs(cls)
    return dict(_DOCS[cls])


def _docs(cls: type) -> dict[str, str]:
    out: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            source = inspect.getsource(base)
        except OSError:  # installed without sources: there are no help texts
            continue
        (definition,) = ast.parse(textwrap.dedent(source)).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                text = inspect.cleandoc(str(below.value.value))
                paragraphs = [" ".join(p.split()) for p in text.split("\n\n")]
                out[field.target.id] = "\n\n".join(paragraphs)
    return out


def help_of(cls: type, name: str) -> str:
    """The help text of a field's option.

    Arguments:
        name: of a field.
        cls: a dataclass whose fields have docstrings, such as `RunRequest`.
    """
    field = fields_of(cls)[name]
    text = field.option.help or docs_of(cls).get(name, "").partition("\n\n")[0]
    if field.type is tuple:
        return f"{text} Repeatable."
    if isinstance(field.default, str | int) and field.type is not bool and field.default != "":
        return f"{text[:-1]} (default: {field.default})."
    return text


def parameters_section(
    cls: type,
    defaults: Mapping[str, Any],
    types: Mapping[str, str],
    leave_out: Collection[str] = (),
) -> str:
    """The section "Parameters" of the docstring of a function with the fields as its parameters.

    Arguments:
        cls: a request class.
        defaults: values that replace those of the class, by name; `REQUIRED` for none.
        types: types that replace those of the class, in words.
        leave_out: fields that are not parameters.
    """
    lines = ["Parameters", "----------"]
    documented, fields = docs_of(cls), fields_of(cls)
    for name in inspect.signature(cls).parameters:  # those that may be positional come first
        if name not in documented or name in leave_out:
            continue
        field = fields[name]
        default = defaults.get(name, field.default)
        head = types.get(name) or _type_in_words(field)
        if default in (None, (), {}):
            head += ", optional"
        elif default is not REQUIRED:
            head += f", default={default!r}"
        lines.append(f"{name} : {head}")
        for paragraph in documented[name].split("\n\n"):
            lines += textwrap.wrap(paragraph, 92, initial_indent=" " * 4, subsequent_indent=" " * 4)
    return "\n".join(lines)


REQUIRED = inspect.Parameter.empty


def _type_in_words(field: RequestField) -> str:
    if field.choices:
        return f"{{{', '.join(map(repr, field.choices))}}}"
    if field.type is tuple:
        return "sequence of str"
    return str(field.type.__name__)
