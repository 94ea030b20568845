"""One field of the request is an option, its help text, a YAML key and a keyword of the API."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

import thresher
from thresher.api import takes_request as api_function
from thresher.cli import options as o
from thresher.errors import ConfigError
from thresher.request import Option, RunRequest, docs_of, fields_of
from thresher.request.run_request import ASKING
from thresher.request.spelling import as_flag
from thresher.selection.config import combine, read


@dataclass(frozen=True, kw_only=True)
class Longer(RunRequest):
    patience: Annotated[int | None, Option("ROWS", "Waiting")] = None
    """Rows to wait for before a pass.

    Not shown in --help.
    """
    mood: Literal["calm", "hasty"] = "calm"
    """How to wait."""
    names: tuple[str, ...] = ()
    """Who waits."""


def run(arguments: list[str], capsys: Callable[..., None] | None = None) -> tuple[Any, Any]:
    seen: list[RunRequest] = []
    app = typer.Typer()

    @app.command()
    @o.takes_request("select", Longer)
    def select(context: typer.Context, config: o.Config = None) -> None:
        """Select."""
        seen.append(o.request_of(context, Longer))

    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "TERM": "dumb"}), seen


def test_a_new_field_is_an_option_with_help() -> None:
    result, _ = run(["--help"])
    assert "--patience" in result.output and "ROWS" in result.output
    assert "Rows to wait for before a pass." in result.output and "Waiting" in result.output
    assert (
        "Not shown in --help" not in result.output
        and "How to wait (default: calm)." in result.output
    )
    _, (request,) = run(["pool.json", "--patience", "3", "--names", "a", "--names", "b"])
    assert (request.pool, request.patience, request.names, request.mood) == (
        "pool.json",
        3,
        ("a", "b"),
        "calm",
    )


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("patience: 4", {"patience": 4}),
        ("mood: hasty\nnames: [x]\nbudget: 5%", {"mood": "hasty", "names": ("x",), "budget": "5%"}),
    ],
)
def test_a_new_field_is_a_key_of_a_config_file(
    tmp_path: Path, text: str, values: dict[str, Any]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text + "\n")
    request = combine(read(file, Longer), {}, Longer)
    assert {name: getattr(request, name) for name in values} == values
    _, (request,) = run(["-c", str(file)])
    assert {name: getattr(request, name) for name in values} == values
    with pytest.raises(ConfigError, match="unknown key"):
        read(file) if "budget" not in text else read(file, RunRequest)


def test_a_new_field_is_a_keyword_of_the_api() -> None:
    seen: list[Any] = []
    wait = api_function(Longer)(lambda pool, request: seen.append(request))  # type: ignore[arg-type, return-value, func-returns-value]
    wait("pool.json", "length", patience=7, names=("a",))
    wait("pool.json")
    first, second = seen
    assert (first.pool, first.method, first.budget) == ("pool.json", "length", "30%")
    assert (first.patience, first.names, second.method, second.patience) == (
        7,
        ("a",),
        "winnow",
        None,
    )
    assert inspect.signature(wait).parameters["patience"].default is None
    documented = (
        "patience : int, optional\n    Rows to wait for before a pass.\n    Not shown in --help."
    )
    assert documented in (wait.__doc__ or "")
    with pytest.raises(TypeError, match="patients"):
        wait("pool.json", patients=7)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match='mood="slow": expected one of calm, hasty'):
        wait("pool.json", mood="slow")  # type: ignore[arg-type]


def test_every_field_of_the_request_is_documented_and_of_a_known_type() -> None:
    assert docs_of(RunRequest).keys() == fields_of(RunRequest).keys()
    for field in fields_of(RunRequest).values():
        assert field.type is bool or field.option.metavar, field.name
        assert set(field.option.commands) <= {*ASKING}
    assert list(inspect.signature(thresher.select).parameters)[:3] == ["pool", "method", "budget"]


def test_the_source_of_a_class_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option needs its help text; parsing the file every time took a second per command."""

    @dataclass(frozen=True, kw_only=True)
    class Another(Longer):
        more: bool = False
        """Wait longer."""

    read_of: list[type] = []
    real = inspect.getsource
    monkeypatch.setattr(inspect, "getsource", lambda cls: read_of.append(cls) or real(cls))
    for _ in range(2):
        docs = docs_of(Another)
        assert docs.pop("more") == "Wait longer." and "patience" in docs
    assert read_of.count(Another) == 1


@pytest.mark.parametrize("folder", [Path("a/b"), Path("images")])
def test_paths_are_kept_as_text(folder: Path) -> None:
    request = RunRequest("pool.json", images=folder, store=folder)  # type: ignore[arg-type]
    assert request.images == request.store == str(folder)
    assert request.to_mapping()["images"] == str(folder)


def test_invalid_config_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder. Name a YAML file, such as .*run\.yaml"):
        read(tmp_path)
    file = tmp_path / "a.yaml"
    file.write_text("set: guard=off\n")
    with pytest.raises(ConfigError, match=r"unknown key 'set'\. Did you mean 'settings'"):
        read(file)


@pytest.mark.parametrize("name", ["images", "validation", "model", "store", "keep"])
def test_an_empty_text_is_refused(name: str) -> None:
    for text in ("", " "):
        with pytest.raises(ConfigError) as error:
            RunRequest(**{name: text})
        assert error.value.spelled(as_flag).startswith(f"--{name} '{text}' is empty.")
