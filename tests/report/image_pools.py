"""Pools with images and hostile texts, and selections of every method, for tests of reports. No
real model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from tests import runs as run
from tests.fake_training import FakeTraining
from tests.text_pools import Model
from thresher.api import Chosen
from thresher.methods import load
from thresher.pools import Pool, open_pool
from thresher.request import RunRequest
from thresher.selection import folder as output
from thresher.storage.columns import Store
from thresher.types import Budget, Columns, Method, MethodContext, Selection, Signal

SOURCES = ("charts", "photos", "text", "exam")
ANSWERS = (
    "Yes.",
    "B",
    "12",
    "dark red",
    "The cube is red.",
    "It is red. So the answer is yes.",
    "1. Look.\n2. Count.",
)

HOSTILE = {
    "script": "<script>window.hacked = 'script'</script>",
    "img": '"><img src=x onerror="window.hacked = \'img\'">',
    "style": "</style><style>body{display:none}</style>",
    "end": "</script><script>window.hacked = 'end'</script>",
    "svg": "<svg onload=\"window.hacked = 'svg'\"></svg>",
    "link": (
        "<a href=\"javascript:window.hacked='link'\">x</a><iframe "
        "src='javascript:window.hacked=1'></iframe>"
    ),
    "template": "{{7*7}} {% for i in range(9) %}{{i}}{% endfor %} ${7*7} #{7*7}",
    "rtl": "\u202eevil txet\u202c \u2067mixed \u05e9\u05dc\u05d5\u05dd\u2069 \u200f\u200e",
    "control": "bell\x07 escape\x1b[31m null\x00 del\x7f",
    "long": "x" * 100_000,
    "words": "many words " * 9_000,
    "comment": "<!-- --><![CDATA[ ]]>&lt;b&gt;&amp;",
}
NAMES = ("it's.png", 'a "quoted" name.png', "x' onerror='window.hacked=1.png", "<b>&amp;.png")


def record(i: int) -> dict[str, Any]:
    """Row `i`: one or two images, or none; one or two exchanges."""
    images: list[str] = (
        [] if i % 4 == 2 else [f"{i % 6}.png"] + ([f"{(i + 1) % 6}.png"] if i % 9 == 0 else [])
    )
    texts = [
        ("human", "<image>\n" * len(images) + f"What is shown in number {i}?"),
        ("gpt", ANSWERS[i % len(ANSWERS)]),
    ]
    if i % 10 == 0:
        texts += [("human", "Are you sure?"), ("gpt", "Yes, quite sure.")]
    out: dict[str, Any] = {"id": f"r{i}", "data_source": SOURCES[i * i % 7 % 4]}
    if images:
        out["image"] = images if len(images) > 1 else images[0]
    out["conversations"] = [{"from": who, "value": text} for who, text in texts]
    return out


def hostile_records() -> list[dict[str, Any]]:
    """Every hostile text as question, answer, id and source, and images with hostile names."""
    out = []
    for i, (kind, text) in enumerate(HOSTILE.items()):
        image = NAMES[i % len(NAMES)]
        texts = [{"from": "human", "value": f"<image>\n{text}"}, {"from": "gpt", "value": text}]
        out.append(
            {
                "id": text[:200],
                "data_source": text[:60] + kind,
                "image": image,
                "conversations": texts,
            }
        )
    return out


def picture_pool(folder: Path, records: list[dict[str, Any]], cache: Path | None = None) -> Pool:
    """A pool file and its images, some large enough to be scaled down."""
    (folder / "images").mkdir(parents=True)
    for i in range(6):
        size = (640, 400) if i % 2 else (48, 48)
        Image.new("RGB", size, (40 * i, 200 - 30 * i, 120)).save(folder / "images" / f"{i}.png")
    for name in NAMES:
        Image.new("RGB", (32, 24), (200, 40, 40)).save(folder / "images" / name)
    (folder / "pool.json").write_text(json.dumps(records), encoding="utf-8")
    return open_pool(folder / "pool.json", folder / "images", cache=cache)


@dataclass(frozen=True)
class Capabilities:
    """Gives the reasons that mmSSR gives."""

    name: ClassVar[str] = "mmssr"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = ""

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return {}

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        n = len(columns)
        names = np.array(["counting", "optical_character_recognition", "logic", "colours", ""])
        table = np.stack(
            [
                (columns.ties // np.uint64(50**k) % np.uint64(50)).astype(np.float32) / 10
                for k in range(4)
            ],
            1,
        )
        rows = np.argsort(-table.max(1), kind="stable")[:budget].astype(np.int64)
        skill, turn = np.full(n, 4), np.full(n, -1, np.int32)
        skill[rows], turn[rows] = table[rows].argmax(1), np.arange(len(rows)) // 4
        style = np.array(["yes/no", "short phrase", "detailed"])[np.arange(n) % 3]
        reason = {"capability": names[skill], "score": table.max(1), "style": style, "round": turn}
        return Selection(rows, reason | {f"score_{names[k]}": table[:, k] for k in range(4)})


@dataclass(frozen=True)
class Errors:
    """Gives the reasons that error-driven tuning gives; half of the rows were fetched, the others
    fill."""

    name: ClassVar[str] = "error_driven"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = ""

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return {}

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        n = len(columns)
        by, rank, score = (
            np.full(n, -1, np.int64),
            np.full(n, -1, np.int32),
            np.full(n, np.nan, np.float32),
        )
        missing = np.full(n, "", object)
        fetched = np.arange(budget // 2)
        by[fetched], rank[fetched], score[fetched] = fetched % 5, fetched // 5, 9.0 - fetched / 10
        missing[fetched] = np.array(["counting <b>small</b> things", "reading a clock"], object)[
            fetched % 2
        ]
        reason = {
            "validation_row": by,
            "mistaken_step": missing,
            "missing_skill": missing,
            "search_rank": rank,
            "search_score": score,
            "skills": np.array([f"skill {i}; another" for i in range(n)], object),
        }
        return Selection(np.arange(budget, dtype=np.int64), reason)


@dataclass(frozen=True)
class Unheard:
    """A plug-in: reasons of every kind under unknown names, one of them the same in every
    row."""

    name: ClassVar[str] = "unheard"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = ""

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return {}

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        n = len(columns)
        quality = np.linspace(0, 1, n).astype(np.float32)
        quality[::7] = np.nan
        reason = {
            "quality": quality,
            "level": np.arange(n, dtype=np.int32) % 5,
            "flag": np.arange(n) % 2 == 0,
            "topic": np.array([f"topic <{i % 20}>" for i in range(n)]),
            "same": np.ones(n, np.float32),
        }
        return Selection(np.arange(budget, dtype=np.int64), reason, ("A note with <b>marks</b>.",))


METHODS = (
    "clipper",
    "mllm_selector",
    "perplexity",
    "length",
    "stratified",
    "random",
    "mmssr",
    "error_driven",
    "unheard",
)


def method(name: str, settings: Mapping[str, str] | None = None) -> Method:
    made: dict[str, Method] = {
        "mmssr": Capabilities(),
        "error_driven": Errors(),
        "unheard": Unheard(),
    }
    return made.get(name) or load(name, settings or {})


def chosen(pool: Pool, name: str, out: Path, budget: str = "30%", **settings: str) -> Chosen:
    """A selection by that method, made with a model that scores by hash and not written; `out`:
    where it would be."""
    work = out.parent / f"work-{out.name}"
    request = RunRequest(
        pool=str(pool.path),
        images=str(pool.images_folder),
        method=name,
        budget=budget,
        settings=settings,
        out=str(out),
    )
    outcome = run.select(
        pool,
        method(name, settings),
        Budget.parse(budget),
        model=Model().handle,
        store=Store(work / "store"),
        trainer=FakeTraining(work / "trainings").trainer,
    )
    return Chosen(outcome, pool, request)


def selected(pool: Pool, name: str, out: Path, budget: str = "30%", **settings: str) -> Path:
    """The folder of such a selection."""
    made = chosen(pool, name, out, budget, **settings)
    output.write(made.outcome, pool, made.request, out, overwrite=True)
    return out
