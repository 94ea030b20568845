"""The method of CONTRIBUTING.md is ten lines, runs as it is printed, and is found by its entry
point."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from thresher import methods
from thresher.testing import check_method

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("\n## ")
TEN_LINES = next(text for text in SECTION if text.startswith("A new method in ten lines"))


def blocks(language: str) -> list[str]:
    """The blocks of code of the section."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEN_LINES, re.M | re.S)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The example as a separate package; yields the name of the method."""
    points = tomllib.loads(blocks("toml")[0])["project"]["entry-points"]["thresher.methods"]
    ((name, place),) = points.items()
    module = place.partition(":")[0]
    file = tmp_path / f"{module.replace('.', '/')}.py"
    file.parent.mkdir(parents=True)
    file.write_text(blocks("python")[0])
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{methods.PLUG_INS}]\n{name} = {place}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for loaded in [m for m in sys.modules if m.partition(".")[0] == module.partition(".")[0]]:
        del sys.modules[loaded]


def test_class_is_ten_lines() -> None:
    _, _, body = blocks("python")[0].partition("@dataclass")
    assert len([line for line in body.splitlines() if line.strip()]) == 10


def test_example_runs_and_conforms(installed: str) -> None:
    assert installed in methods.available()
    cls = methods.method_class(installed)
    assert cls.name == installed
    check_method(cls, nested=True)
    test: dict[str, object] = {cls.__name__: cls}
    exec(blocks("python")[-1], test)
    run = next(value for name, value in test.items() if name.startswith("test_"))
    assert callable(run)
    run()


def test_example_of_explain_runs(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from thresher.methods.explanation import Evidence, Explanation, by_one_number

    names = {"Evidence": Evidence, "Explanation": Explanation, "by_one_number": by_one_number}
    cls = methods.method_class(installed)
    scope: dict[str, object] = dict(names)
    exec(blocks("python")[1], scope)
    monkeypatch.setattr(cls, "explain", scope["explain"], raising=False)
    check_method(cls)
