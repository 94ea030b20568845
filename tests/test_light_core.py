"""The core runs without torch and transformers, and reports in one line what needs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from thresher.extras import MODULES

ROOT = Path(__file__).parent.parent
HEAVY = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "huggingface_hub",
    "accelerate",
    "peft",
    "trl",
    "datasets",
)
WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
ONE_AFTER_THE_OTHER = """
import contextlib, io, json, traceback
from thresher.cli import main

done = {}
for name, words in json.load(open(sys.argv[1], encoding="utf-8")).items():
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            code, _ = -1, traceback.print_exc()
    done[name] = [code, out.getvalue(), err.getvalue()]
print(json.dumps(done))
"""


ROWS = 90  # of the pool


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


def run(
    commands: Mapping[str, Sequence[object]], absent: Sequence[str], folder: Path
) -> dict[str, Done]:
    """Every `thresher WORDS` of `commands`, in one process that cannot import `absent`; its store
    is in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "commands.json"
    listed.write_text(
        json.dumps({name: [str(w) for w in words] for name, words in commands.items()}), "utf-8"
    )
    code = WITHOUT.format(absent=set(absent)) + ONE_AFTER_THE_OTHER
    environment = {**os.environ, "THRESHER_STORE": str(folder / "store")}
    output = subprocess.run(
        [sys.executable, "-c", code, str(listed)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert output.returncode == 0, output.stderr
    return {
        name: Done(*found) for name, found in json.loads(output.stdout.splitlines()[-1]).items()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool, and a selection by a model's loss, whose columns are stored."""
    from thresher.cli import main
    from thresher.demo.pool import make_pool

    folder = tmp_path_factory.mktemp("light")
    make_pool(folder / "pool", rows=ROWS, seed=3)
    pool, out, store = folder / "pool" / "pool.json", folder / "scored", folder / "store"
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "select",
                str(pool),
                "-m",
                "perplexity",
                "-b",
                "30%",
                "--model",
                "demo",
                "-o",
                str(out),
                "--store",
                str(store),
            ]
        )
    assert not stop.value.code
    return folder


def test_starting_up_imports_nothing_heavy() -> None:
    """`thresher --help` shows at once: what takes long to import is imported by the commands that
    need it."""
    code = (
        "import sys\nfrom thresher.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print('\\n' + ' '.join(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    loaded = set(output.strip().splitlines()[-1].split())
    assert "thresher" in loaded
    unwanted = {
        *HEAVY,
        "numpy",
        "pyarrow",
        "PIL",
        "yaml",
        "httpx",
        "jinja2",
        "pandas",
        "starlette",
        "uvicorn",
    }
    assert not loaded & unwanted


COMMANDS = {
    "version": ["--version"],
    "methods": ["methods"],
    "doctor": ["doctor", "{pool}"],
    "doctor as JSON": ["doctor", "{pool}", "--json"],
    "doctor against a test set": ["doctor", "{pool}", "--eval", "{pool}"],
    "random": ["select", "{pool}", "-m", "random", "-b", "20%", "-o", "{out}"],
    "stratified": ["select", "{pool}", "-m", "stratified", "-b", "20%", "-o", "{out}"],
    "length": ["select", "{pool}", "-m", "length", "-b", "20%", "-o", "{out}"],
    "exact copies": [
        "select",
        "{pool}",
        "-m",
        "random",
        "-b",
        "20%",
        "--dedup",
        "exact",
        "-o",
        "{out}",
    ],
    "near copies": [
        "select",
        "{pool}",
        "-m",
        "random",
        "-b",
        "20%",
        "--dedup",
        "near",
        "-o",
        "{out}",
    ],
    "tokens": ["select", "{pool}", "-m", "random", "-b", "1ktok", "-o", "{out}"],
    "mixture": [
        "select",
        "{pool}",
        "-m",
        "random",
        "-b",
        "20%",
        "--quota",
        "captions=5",
        "-o",
        "{out}",
    ],
    "plan": ["plan", "{pool}", "-m", "length", "-b", "20%"],
    "export of a pool": ["export", "{pool}", "--format", "llamafactory", "-o", "{out}"],
    "export of a selection": ["export", "{scored}", "--format", "swift", "-o", "{out}"],
    "report of a model's selection": ["report", "{scored}"],
    "signals of a model's selection": ["signals", "{scored}", "-o", "{out}.parquet"],
    "diff with itself": ["diff", "{scored}", "{scored}"],
}


@pytest.fixture(scope="module")
def core(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """All of COMMANDS; only what looks for near copies has the extras."""
    folder = tmp_path_factory.mktemp("core")
    given = {
        name: filled(words, made, folder / name.replace(" ", "-"))
        for name, words in COMMANDS.items()
    }
    near = {name: words for name, words in given.items() if "near" in words}
    rest = {name: words for name, words in given.items() if name not in near}
    absent = beyond_the_core()
    assert set(HEAVY) <= set(absent)
    return run(near, HEAVY, folder / "near") | run(rest, absent, folder / "rest")


def beyond_the_core() -> list[str]:
    """Importable packages that `pip install thresher` does not bring, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    brought, waiting = set(), list(project["dependencies"])
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        if name in brought or (
            requirement.marker and not requirement.marker.evaluate({"extra": ""})
        ):
            continue
        brought.add(name)
        waiting += metadata.requires(name) or []
    kept = {*sys.stdlib_module_names, "thresher"}
    return sorted(
        package
        for package, owners in metadata.packages_distributions().items()
        if package not in kept and not {canonicalize_name(o) for o in owners} & brought
    )


def filled(words: Sequence[str], made: Path, out: Path) -> list[str]:
    return [
        w.format(pool=made / "pool" / "pool.json", scored=made / "scored", out=out) for w in words
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_core_commands_need_neither_torch_nor_transformers(
    name: str, core: dict[str, Done]
) -> None:
    done = core[name]
    assert done.code in ((0, 1) if name.startswith("doctor") else (0,)), done.err
    assert "Traceback" not in done.err
    if name == "doctor as JSON":
        assert json.loads(done.out)["rows"] == ROWS


def test_the_viewer_browses_stored_columns_without_a_model(made: Path) -> None:
    code = WITHOUT.format(absent=set(HEAVY)) + (
        "from thresher.viewer.session import Session\nsession = "
        "Session(sys.argv[1])\nprint(len(session.pool))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(made / "scored")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(ROWS)


def test_served_model_needs_no_torch(made: Path, tmp_path: Path) -> None:
    """As far as asking the server, which is not there: that is what the message is about."""
    words = [
        "select",
        "{pool}",
        "-m",
        "mmssr",
        "-b",
        "20%",
        "--backend",
        "openai",
        "--url",
        "http://127.0.0.1:9/v1",
    ]
    (done,) = run(
        {"it": filled([*words, "--model", "some", "-o", "{out}"], made, tmp_path / "out")},
        HEAVY,
        tmp_path,
    ).values()
    assert done.code == 1 and "Traceback" not in done.err
    assert "127.0.0.1:9" in done.err and "thresher[" not in done.err


MODEL_COMMANDS = {
    "demo": (["demo", "-o", "{out}"], "hf"),
    "built-in model": (
        ["select", "{pool}", "-m", "clipper", "-b", "20%", "--model", "demo", "-o", "{out}"],
        "hf",
    ),
    "folder": (
        ["select", "{pool}", "-m", "perplexity", "-b", "20%", "--model", "{scored}", "-o", "{out}"],
        "hf",
    ),
    "hub id": (
        ["plan", "{pool}", "-m", "clipper", "-b", "20%", "--model", "Qwen/Qwen2.5-VL-7B-Instruct"],
        "hf",
    ),
    "semantic": (
        [
            "select",
            "{pool}",
            "-m",
            "random",
            "-b",
            "20%",
            "--dedup",
            "semantic",
            "--model",
            "demo",
            "-o",
            "{out}",
        ],
        "hf",
    ),
    "evaluate": (["evaluate", "--model", "demo", "--data", "{pool}"], "hf"),
    "a method that trains": (
        ["select", "{pool}", "-m", "mllm_selector", "-b", "20%", "--model", "demo", "-o", "{out}"],
        "train",
    ),
    "train": (["train", "{pool}", "--model", "demo", "-o", "{out}"], "train"),
    "compare": (
        [
            "compare",
            "{pool}",
            "--eval",
            "{pool}",
            "--methods",
            "length",
            "--budgets",
            "10%",
            "--model",
            "demo",
            "-o",
            "{out}",
        ],
        "train",
    ),
}


@pytest.fixture(scope="module")
def refused(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    folder = tmp_path_factory.mktemp("refused")
    given = {
        name: filled(words, made, folder / "out") for name, (words, _) in MODEL_COMMANDS.items()
    }
    done = run(given, HEAVY, folder)
    assert not (folder / "out").exists()
    return done


@pytest.mark.parametrize("name", MODEL_COMMANDS)
def test_missing_hf_extra_is_one_line(name: str, refused: dict[str, Done]) -> None:
    done, extra = refused[name], MODEL_COMMANDS[name][1]
    assert done.code == 2, done.err
    (line,) = done.err.strip().splitlines()
    assert (
        line.startswith("Error: ")
        and f'pip install "thresher[{extra}]"' in line
        and "torch" in line
    )


@pytest.mark.parametrize("absent", ["imagehash", "rensa"])
def test_missing_duplicates_extra_is_reported_before_reading_the_pool(
    absent: str, tmp_path: Path
) -> None:
    words = ["no-such-pool.json", "-m", "random", "-b", "20%", "--dedup", "near"]
    for done in run(
        {"a": ["select", *words, "-o", tmp_path / "out"], "b": ["plan", *words]}, [absent], tmp_path
    ).values():
        assert done.code == 2
        (line,) = done.err.strip().splitlines()
        assert absent in line and 'pip install "thresher[duplicates]"' in line


# --------------------------------------------------------------------- what pyproject.toml requires


def requirements() -> dict[str, list[str]]:
    """Extra -> names of packages that it brings, the core's under ""; extras of thresher itself
    followed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    stated: dict[str, list[str]] = {"": project["dependencies"], **project["optional-dependencies"]}

    def names(extra: str) -> list[str]:
        out = []
        for text in stated[extra]:
            if inner := re.fullmatch(r"thresher\[(.+)\]", text):
                for further in inner[1].split(","):
                    out += names(further.strip())
            else:
                out.append(re.split(r"[\[<>=!~; ]", text, maxsplit=1)[0].lower().replace("-", "_"))
        return out

    return {extra: names(extra) for extra in stated}


def test_the_core_fits_into_any_trainers_environment() -> None:
    """Trainers pin torch, transformers, trl and peft: the core asks for none of them, nor for what
    depends on them."""
    core = requirements()[""]
    assert not {*HEAVY, "torchvision", "accelerate", "s3fs", "pandas"} & set(core)
    assert len(core) == len(set(core)) < 15


IMPORT_NAMES = {"mlflow_skinny": "mlflow"}
"""Name of a distribution -> that of its module, where they differ."""


def test_extras_match_the_modules_in_code() -> None:
    asked = requirements()
    for extra, modules in MODULES.items():
        brought = {IMPORT_NAMES.get(name, name) for name in (*asked[extra], *asked[""])}
        lacking = set(modules) - brought
        assert not lacking, f"[{extra}] does not bring {lacking}"
    everything = set(asked["all"])
    # ray has no wheels for some platforms, vllm needs an environment of its own
    for extra in set(asked) - {"dev", "ray", "slow", "test", "vllm", ""}:
        assert set(asked[extra]) <= everything, f"[all] lacks what [{extra}] has"
    assert set(asked["train"]) > set(asked["hf"])
    assert {"torch", "transformers", "trl", "pytest"} <= set(asked["dev"])


def test_extras_named_in_pages_exist() -> None:
    known = set(requirements())
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]
    for page in pages:
        for names in re.findall(r"thresher\[([a-z,]+)\]", page.read_text("utf-8")):
            assert set(names.split(",")) <= known, f"{page.name}: thresher[{names}]"
