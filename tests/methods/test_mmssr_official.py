"""mmSSR with files in the form of the official program, and compat=official against a plain
rewriting of the published algorithm (`tests/samplers/published_mmssr.py`)."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests import runs
from tests.samplers import published_mmssr
from tests.text_pools import Model, record, write_pool
from thresher.backends.fake import FakeBackend
from thresher.cli import app
from thresher.engine.record_facts import RecordFacts
from thresher.errors import ConfigError
from thresher.methods import load
from thresher.pools import open_pool
from thresher.signals.style import STYLES, listed_styles
from thresher.storage.columns import Store
from thresher.types import Rows, Sample

STYLE_TEXTS = [
    *("yes/no", "comparison, yes/no", "yes/no, comparison", "multi-choice,comparison,yes/no"),
    *("word/short-phrase", "rhymes", "comparison , comparison", "Yes/No"),
]


def write_results(folder: Path, answers: dict[str, dict[Any, Any]]) -> Path:
    """As the official program's first step writes them: file name -> idx -> response."""
    folder.mkdir()
    for name, lines in answers.items():
        rows = [json.dumps({"idx": i, "pred_response": text}) for i, text in lines.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    return folder


def official_pool(path: Path, n: int, sources: int = 2) -> Path:
    """Records with `idx` (not their number) beside `id`, of several sources."""
    rows = [record(i) | {"idx": 1000 + 7 * i, "data_source": f"s{i % sources}"} for i in range(n)]
    return write_pool(path, rows)


def select(pool: Path, folder: Path, out: Path, budget: int, *settings: str) -> tuple[Any, str]:
    """The ids that are kept, in the file's order, and what the command printed."""
    words = ["select", str(pool), "-m", "mmssr", "-b", str(budget), "-o", str(out), "--store"]
    words += [str(out.parent / "store"), "--set", f"results={folder}"]
    for setting in settings:
        words += ["--set", setting]
    done = CliRunner().invoke(app, words)
    if done.exit_code:
        return None, done.output
    return [r["id"] for r in json.loads((out / "subset.json").read_text("utf-8"))], done.output


def published(
    idx: list[int], answers: dict[str, dict[int, str]], caps: list[str], sources: list[str], k: int
) -> set[int]:
    """The idx that the published algorithm takes."""

    def number(text: str) -> float:
        try:
            return int(text)
        except ValueError:
            return np.nan

    table = pd.DataFrame(
        {c: [number(answers[c].get(i, "")) for i in idx] for c in caps}, index=idx, dtype=float
    )
    lists = []
    for i, source in zip(idx, sources, strict=True):
        text = answers["style"].get(i)
        parts = [] if text is None else [f"{part.strip()}+{source}" for part in text.split(",")]
        lists.append(list(dict.fromkeys(parts)))
    for place in range(max(map(len, lists))):
        values = [row[place] if place < len(row) else None for row in lists]
        table[f"sty_{place + 1}"] = pd.Series(values, index=idx, dtype=object)
    return set(published_mmssr.select(table, caps, k))


@pytest.mark.parametrize("seed", range(8))
def test_official_files_give_the_rows_of_the_official_program(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    n = rng.randint(20, 60)
    pool = official_pool(tmp_path / "qas.json", n, sources=rng.randint(1, 3))
    records = json.loads(pool.read_text("utf-8"))
    idx = [r["idx"] for r in records]
    caps = ["spatial", "logical deduction", "attribute"]
    answers: dict[str, dict[int, str]] = {
        c: {i: rng.choice(["0", "1", "2", "3", "3", "4", "5", "none"]) for i in idx} for c in caps
    }
    answers["style"] = {i: rng.choice(STYLE_TEXTS) for i in idx if rng.random() < 0.9}
    del answers["spatial"][idx[3]]
    folder = write_results(tmp_path / "results", answers)
    order = ["spatial", "attribute", "logical deduction"]
    names = ",".join(c.replace(" ", "_") for c in order)
    for k in (1, 7, n // 2):
        kept, output = select(
            pool, folder, tmp_path / f"o{k}", k, "compat=official", f"capabilities={names}"
        )
        assert kept is not None, output
        want = published(idx, answers, order, [r["data_source"] for r in records], k)
        number = {r["id"]: r["idx"] for r in records}
        assert {number[i] for i in kept} == want


def test_answers_are_read_as_generated_ones_by_default(tmp_path: Path) -> None:
    pool = official_pool(tmp_path / "qas.json", 6)
    idx = [1000 + 7 * i for i in range(6)]
    texts = ["I rate it 4.", "0", "5", "8/10", "3", "2"]
    styles = ["Styles: yes/no", "yes/no", "rhymes", "yes/no", "comparison", "yes/no"]
    answers = {
        "OCR": dict(zip(idx, texts, strict=True)),
        "style": dict(zip(idx, styles, strict=True)),
    }
    del answers["OCR"][idx[5]]
    folder = write_results(tmp_path / "results", answers)
    kept, output = select(pool, folder, tmp_path / "o", 6)
    assert kept is not None, output
    rows = [r["id"] for r in json.loads(pool.read_text("utf-8"))]
    assert set(kept) == {rows[0], rows[2], rows[4]}
    assert "1 row of 6 has no line in ocr.jsonl" in output
    assert "1 of 5 answers give no clear number" in output  # the row without a line is no answer


@pytest.mark.parametrize("compat", ["none", "official"])
def test_notes_on_styles_that_are_unknown_or_empty(compat: str, tmp_path: Path) -> None:
    """Three rows with a style of the nine, two with another, one with an empty answer, none without
    a line. With compat=official, any text between commas is a style."""
    pool = official_pool(tmp_path / "qas.json", 6)
    idx = [1000 + 7 * i for i in range(6)]
    styles = ["yes/no", "made-up style", "", "yes/no", "made-up style", "comparison"]
    answers: dict[str, dict[Any, Any]] = {
        "OCR": dict(zip(idx, ["4", "", None, "1", "2", "3"], strict=True)),
        "style": dict(zip(idx, styles, strict=True)),
    }
    folder = write_results(tmp_path / "results", answers)
    kept, output = select(pool, folder, tmp_path / "o", 6, f"compat={compat}")
    assert kept is not None, output
    text = " ".join(output.split())
    assert "1 row of 6 has an empty answer in style.jsonl, and no style from it." in text
    assert "2 rows of 6 have an empty answer in ocr.jsonl, and no score from it." in text
    assert "no line" not in text
    unknown = "styles: 2 of 5 generations (40.0%) name no known style" in text
    assert unknown == (compat == "none"), text
    assert ("no known style" in text) == unknown


def test_ids_serve_where_records_have_no_idx(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "qas.json", [record(i) | {"id": f"r{i}"} for i in range(3)])
    answers = {
        "ocr": {"r0": "1", "r1": "5", "r2": "0"},
        "style": dict.fromkeys(("r0", "r1"), "yes/no"),
    }
    folder = write_results(tmp_path / "results", answers)
    assert select(pool, folder, tmp_path / "o", 1, "group_by=style")[0] == ["r1"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"ocr": '{"idx": 1000, "pred_response": "4"}\n'}, "there is no style.jsonl"),
        ({"style": '{"idx": 1000, "pred_response": "yes/no"}\n'}, "no file CAPABILITY.jsonl"),
        ({"ocr": "4\n", "style": "{}"}, "line 1 of ocr.jsonl lacks idx or pred_response"),
        ({"ocr": "{4\n", "style": "{}"}, "line 1 of ocr.jsonl is not JSON"),
        (
            {"ocr": '{"idx": 1000, "pred_response": "4"}\n' * 2, "style": "{}"},
            "line 2 of ocr.jsonl repeats the idx 1000",
        ),
        (
            {"ocr": '{"idx": 3, "pred_response": "4"}\n', "style": "{}"},
            "no line of ocr.jsonl belongs to a row. Its first idx is 3; the first record's idx (or "
            "else id) is 1000",
        ),
    ],
)
def test_wrong_files_say_what_is_expected(
    files: dict[str, str], reason: str, tmp_path: Path
) -> None:
    pool = official_pool(tmp_path / "qas.json", 4)
    folder = tmp_path / "results"
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.jsonl").write_text(text)
    kept, output = select(pool, folder, tmp_path / "o", 2)
    assert kept is None and reason in output, output


def test_results_exclude_models(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "results", {"ocr": {1: "4"}, "style": {1: "yes/no"}})
    with pytest.raises(ConfigError, match="was given teacher and results"):
        load("mmssr", {"results": str(folder), "teacher": "http://x/v1#m"})
    with pytest.raises(ConfigError, match="no such folder"):
        load("mmssr", {"results": str(tmp_path / "none")})
    with pytest.raises(ConfigError, match=r"no capability 'stem_knowledge'.*Available: .*ocr"):
        load("mmssr", {"results": str(folder), "capabilities": "stem"})


def test_a_styler_s_list_keeps_its_order() -> None:
    assert listed_styles("comparison, yes/no") == [6, 2]
    assert listed_styles("Styles: [yes/no, comparison]") == [2, 6]
    assert listed_styles(", ".join(STYLES)) == []


class Writes(FakeBackend):
    """Gives the same score to all rows, and to each the list of styles that its question names."""

    def __init__(self) -> None:
        super().__init__(writes=self._text)

    def _text(self, sample: Sample) -> str:
        text = sample.turns[1].text
        if "Interaction style" not in text:
            return "3"
        return text.split("[[")[1].split("]]")[0]


def test_equal_scores_follow_written_lists_and_the_files(tmp_path: Path) -> None:
    """Rows 0 to 3 name yes/no second, rows 4 and 5 first. Both groups have all six rows, and each
    gives one: the first row in the file that names its style first."""
    lists = ["comparison, yes/no"] * 4 + ["yes/no, comparison"] * 2
    rows = [record(i) for i in range(6)]
    for row, text in zip(rows, lists, strict=True):
        row["conversations"][0]["value"] += f" [[{text}]]"
    settings = {"score": "generate", "style": "generate", "compat": "official"}
    method = load("mmssr", settings | {"capabilities": "ocr", "group_by": "style"})
    for order, expected in ((rows, {"r0", "r4"}), (rows[::-1], {"r3", "r5"})):
        pool = open_pool(write_pool(tmp_path / f"{order[0]['id']}.json", order))
        store = Store(tmp_path / "store")
        handle = replace(Model().handle, open=Writes)
        chosen = runs.select(pool, method, Rows.of(2), model=handle, store=store)
        assert {order[i]["id"] for i in chosen.rows.tolist()} == expected


def test_facts_of_records(tmp_path: Path) -> None:
    pool = open_pool(official_pool(tmp_path / "qas.json", 3))
    facts = RecordFacts(pool)
    assert facts["row"].tolist() == [0, 1, 2]
    assert facts["idx"].tolist() == ["1000", "1007", "1014"]
    assert set(pool.facts) < set(facts)
