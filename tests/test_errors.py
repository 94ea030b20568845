"""Messages name options as the user gave them: by a keyword in Python, a flag of the command line,
a line of a YAML file."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import thresher
from thresher.cli import app, main
from thresher.errors import ConfigError, ModelError, ThresherError, in_python, opt, spelled
from thresher.request.spelling import as_flag, as_yaml, flag_of

SOURCES = Path(thresher.__file__).parent
CODE = re.compile(r"`[^`]*`")  # a command to type
ERRORS = {c.__name__ for c in (ThresherError, *ThresherError.__subclasses__())} | {
    c.__name__ for c in ModelError.__subclasses__()
}


@pytest.fixture(scope="module")
def sources() -> list[tuple[Path, ast.Module]]:
    """The modules of the package."""
    return [
        (path.relative_to(SOURCES), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(SOURCES.rglob("*.py"))
    ]


def called(node: ast.AST) -> str:
    function = node.func if isinstance(node, ast.Call) else None
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def texts(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def test_no_raised_message_writes_a_flag(sources: list[tuple[Path, ast.Module]]) -> None:
    found = []
    for path, tree in sources:
        for node in ast.walk(tree):
            raised = node.exc if isinstance(node, ast.Raise) else node
            if called(raised) in ERRORS or isinstance(node, ast.Raise):
                said = CODE.sub("", "".join(texts(raised))) if raised is not None else ""
                if re.search(r"(?<![\w-])--[a-z]", said):
                    found.append(f"{path}:{node.lineno}: {said}")
    assert not found, "\n".join(found)


def displayed_texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of every string; without docstrings and the messages of assertions."""
    for child in ast.iter_child_nodes(node):
        is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        if is_docstring or isinstance(child, ast.Assert):
            continue
        if isinstance(child, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else "…" for p in child.values]
            yield child.lineno, "".join(map(str, parts))
            for part in child.values:
                if isinstance(part, ast.FormattedValue):
                    yield from displayed_texts(part)
            continue
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.lineno, child.value
        yield from displayed_texts(child)


# other programs' flags, and files that hold command lines
NOT_OUR_FLAGS = {
    "backends/vllm/arguments.py",
    "evaluation/lmms.py",
    "pools/tar_samples.py",
    "pools/webdataset.py",
}
# packages whose texts are only seen on the command line, or that write commands
SPELLED_AS_FLAGS = (
    "cli/",
    "demo/",
    "request/",
    "report/select_report.py",
    "report/suspects_section.py",
)
STORED_AS_WRITTEN = {
    "pools/layouts.py",
    "pools/llava.py",
    "pools/paths.py",
}  # row errors in the cache of a pool


def test_no_note_writes_a_flag(sources: list[tuple[Path, ast.Module]]) -> None:
    """Notes are displayed by the Python API as well: they name options by `opt`."""
    found = []
    for path, tree in sources:
        name = path.as_posix()
        if name.startswith(SPELLED_AS_FLAGS) or name in NOT_OUR_FLAGS | STORED_AS_WRITTEN:
            continue
        found += [
            f"{name}:{line}: {text}"
            for line, text in displayed_texts(tree)
            if re.search(r"(?<![\w-])--[a-z]", CODE.sub("", text))
        ]
    assert not found, "\n".join(found)


def test_every_option_that_a_message_names_exists(sources: list[tuple[Path, ast.Module]]) -> None:
    top = typer.main.get_command(app)
    commands = [c for group in (top, top.commands["store"]) for c in group.commands.values()]  # type: ignore[attr-defined]
    flags = {
        name
        for command in commands
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    only_in_python = {"warmup", "weight_decay", "lora_rank", "lora_alpha", "schedule"}
    found = set()
    for path, tree in sources:
        for node in ast.walk(tree):
            names: list[Any] = []
            if called(node) == "opt":
                names = node.args[:1]  # type: ignore[attr-defined]
            elif called(node) in ERRORS:
                names = [k.value for k in node.keywords if k.arg == "option"]  # type: ignore[attr-defined]
            for name in names:
                if isinstance(name, ast.Constant) and not name.value.startswith("settings."):
                    found.add((name.value, str(path)))
    assert len(found) > 80
    wrong = [f for f in found if flag_of(f[0]) not in flags and f[0] not in only_in_python]
    assert not sorted(wrong)


@pytest.mark.parametrize(
    ("name", "value", "python", "flag", "yaml"),
    [
        ("budget", "30%", 'budget="30%"', "--budget 30%", "budget: 30%"),
        ("budget", "0", "budget=0", "--budget 0", "budget: 0"),
        ("on_missing", None, "`on_missing`", "--on-missing", "on_missing"),
        ("force", True, "force=True", "--force", "force: true"),
        ("learning_rate", 2e-4, "learning_rate=0.0002", "--lr 0.0002", "learning_rate: 0.0002"),
        ("settings.keep", 0.3, 'settings={"keep": 0.3}', "--set keep=0.3", "settings: {keep: 0.3}"),
        ("settings.judge", None, 'settings={"judge": …}', "--set judge=…", "settings: {judge}"),
        ("out", Path("a b"), 'out="a b"', "--out 'a b'", "out: a b"),
    ],
)
def test_an_option_in_each_interface(
    name: str, value: object, python: str, flag: str, yaml: str
) -> None:
    error = ConfigError(
        f" is wrong. Give {opt(name, value)} or {opt(name)}.", option=name, value=value
    )
    for spell, text in ((in_python, python), (as_flag, flag), (as_yaml, yaml)):
        said = error.spelled(spell)
        assert said == f"{text} is wrong. Give {text} or {spell(name, None)}."
    assert str(error) == error.spelled(in_python) and error.option == name
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.option == name


def test_a_message_is_wrapped_without_losing_its_options() -> None:
    first = ConfigError(": no.", option="seed", value=-1)
    second = ConfigError(f"{first.message} Again.")
    assert (
        second.spelled(as_flag) == "--seed -1: no. Again." and str(second) == "seed=-1: no. Again."
    )
    assert spelled("plain --text {braces}", as_flag) == "plain --text {braces}"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"settings": "guard=off"}, r"settings='guard=off': expected a dict .*, not str\."),
        ({"settings": ["guard"]}, r"settings=\['guard'\]: expected a dict .*, not list\."),
        ({"settings": {"keep": 7}}, r'settings=\{"keep": 7\}: expected a share'),
        ({"seed": 1.5}, r"seed=1\.5: expected a whole number, not float\."),
        ({"force": "yes"}, r"force='yes': expected True or False, not str\."),
        ({"drop_suspects": 3}, r"drop_suspects=3: the suspicion"),
        ({"budget": 0}, r"budget=0: at least one row"),
        ({"dedup": "nar"}, r"dedup=\"nar\": expected one of exact, near, semantic\."),
    ],
)
def test_the_api_speaks_of_keywords(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said}") as raised:
        thresher.select("pool.json", "winnow", **{"budget": "30%", **given})
    assert "--" not in str(raised.value)


@pytest.mark.parametrize(
    ("file", "words", "said"),
    [
        ("budget: 0", "", "budget: 0 (in run.yml): at least one row"),
        ("budget: 0", "--budget 0%", "--budget 0%: a share must be"),
        ("settings: {keep: 7}", "-b 3", "settings: {keep: 7} (in run.yml): expected a share"),
        ("settings: {keep: 7}", "-b 3 -s keep=8", "--set keep=8: expected a share"),
        ("settings: keep=7", "-b 3", "run.yml: settings: keep=7: expected lines of"),
        ("seed: one", "-b 3", "run.yml: seed: one: expected a whole number"),
        ("seed: -1", "-b 3", "seed: -1 (in run.yml): expected 0 or more"),
        ("seed: -1", "-b 3 --seed -2", "--seed -2: expected 0 or more"),
    ],
)
def test_the_command_line_tells_flags_from_the_lines_of_a_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
    words: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yml").write_text(f"pool: pool.json\nmethod: winnow\n{file}\n")
    with pytest.raises(SystemExit) as ended:
        main(["select", "-c", "run.yml", "-o", "out", *words.split()])
    assert ended.value.code == 2 and f"Error: {said}" in capsys.readouterr().err
