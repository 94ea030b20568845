"""How commands show their help: no type behind a switch or an argument, no braces in the usage
line, no line breaks of the source inside a paragraph."""

from __future__ import annotations

import inspect
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption


class Command(TyperCommand):
    """A command whose help shows a placeholder only where a value is expected."""

    def get_params(self, ctx: Any) -> Any:
        """The parameters, the option --help included."""
        return _without_types(super().get_params(ctx))


class Group(TyperGroup):
    """As `Command`, for `thresher` itself."""

    def get_params(self, ctx: Any) -> Any:
        """The parameters, the option --help included."""
        return _without_types(super().get_params(ctx))


def paragraphs(docstring: str | None) -> str:
    """A docstring with each paragraph on one line."""
    text = inspect.cleandoc(docstring or "")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _without_types(parameters: Any) -> Any:
    for parameter in parameters:
        if isinstance(parameter, TyperOption) and parameter.is_flag:
            parameter.metavar = ""
        elif isinstance(parameter, TyperArgument):
            name = parameter.metavar or parameter.name
            usage = [name if parameter.required else f"[{name}]"]
            # Typer has no setting for these two.
            vars(parameter).update(
                display_type_rich=lambda ctx: "", get_usage_pieces=lambda ctx, usage=usage: usage
            )
    return parameters
