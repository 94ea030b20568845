"""Media markers of other tools in texts: read if the format defines them, else a row problem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from thresher import exporters
from thresher.doctor import diagnose
from thresher.pools import llava, open_pool
from thresher.pools.llava import Parsed, parse
from thresher.types import digests_to_bytes

CASE = Path(__file__).resolve().parents[2] / "../shared/cases/12-images-inside-the-text"


def row(question: str, answer: str = "A", **fields: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"conversations": turns, **fields}


def read(question: str, answer: str = "A", **fields: Any) -> Parsed:
    return parse(row(question, answer, **fields), "", "")


READ = {  # question, image field -> text, images
    "qwen-vl v1": ("Picture 1: <img>a/b.png</img>\nQ", None, "Picture 1: <image>\nQ", ["a/b.png"]),
    "two of them": (
        "Picture 1: <img>a.png</img>\nPicture 2: <img>b c.jpg</img>\nQ",
        None,
        "Picture 1: <image>\nPicture 2: <image>\nQ",
        ["a.png", "b c.jpg"],
    ),
    "named twice over": ("<img>a.png</img>Q", "a.png", "<image>Q", ["a.png"]),
    "data address": ("<img>data:image/png;base64,QUI=</img>Q", None, "<image>Q", [b"AB"]),
    "numbered": (
        "See <image1>, then <image2>.",
        ["a", "b"],
        "See <image>, then <image>.",
        ["a", "b"],
    ),
    "numbered, other order": (
        "See <image_2>, then <image_1>.",
        ["a", "b"],
        "See <image>, then <image>.",
        ["b", "a"],
    ),
    "from zero": ("<image_00> <image_01>", ["a", "b"], "<image> <image>", ["a", "b"]),
    "phi": ("<|image_1|>\n<|image_2|>\nQ", ["a", "b"], "<image>\n<image>\nQ", ["a", "b"]),
    "by name": (
        "<image_01>\n<image_00>Q",
        {"<image_00>": "a", "<image_01>": "b"},
        "<image>\n<image>Q",
        ["b", "a"],
    ),
    "<|image|>": ("<|image|>Q", "a", "<image>Q", ["a"]),
    "<ImageHere>": ("Q <ImageHere> R", "a", "Q <image> R", ["a"]),
    "<IMAGE>": ("Q\n<IMAGE>", ["a"], "Q\n<image>", ["a"]),
    "[IMG]": ("[IMG][IMG]Q", ["a", "b"], "<image><image>Q", ["a", "b"]),
    "<|image_pad|>": ("<|image_pad|>Q", "a", "<image>Q", ["a"]),
    "vision": ("<|vision_start|><|image_pad|><|image_pad|><|vision_end|>Q", "a", "<image>Q", ["a"]),
    "gemma": ("<start_of_image>Q", "a", "<image>Q", ["a"]),
    "soft token": ("<image_soft_token>Q", "a", "<image>Q", ["a"]),
    "<img> alone": ("<img>\nQ", "a", "<image>\nQ", ["a"]),
    "<img></img>": ("<img></img>Q", "a", "<image>Q", ["a"]),
}


@pytest.mark.parametrize(("question", "image", "text", "images"), READ.values(), ids=READ)
def test_marker_with_its_image_is_a_placeholder(
    question: str, image: Any, text: str, images: list[Any]
) -> None:
    found = read(question, **({} if image is None else {"image": image}))
    assert (found.texts[0], found.images, found.problem) == (text, images, "")
    assert found.flags == llava.MARKERS_READ


PROBLEM = {
    "more numbers than images": ("<image1> <image2> <image3>", ["a", "b"]),
    "a number twice": ("<image1>, <image2>, again <image1>", ["a", "b"]),
    "a number that is not there": ("<image7>", "a"),
    "numbers without images": ("<image1>", None),
    "numbers and placeholders": ("<image> <image1> <image2>", ["a", "b", "c"]),
    "more tokens than images": ("<|image|><|image|>Q", "a"),
    "a token without an image": ("<|image_pad|>Q", None),
    "<ImageHere> without an image": ("<ImageHere>Q", None),
    "<img> without an image": ("<img>\nQ", None),
    "other images than named": ("<img>a.png</img>Q", "b.png"),
    "<video> without a video": ("<video>\nQ", None),
    "<audio> without audio": ("Q\n<audio>", None),
}


@pytest.mark.parametrize(("question", "image"), PROBLEM.values(), ids=PROBLEM)
def test_marker_without_image_is_a_row_problem(question: str, image: Any) -> None:
    found = read(question, **({} if image is None else {"image": image}))
    assert found.problem.startswith("media-marker: ")


@pytest.mark.parametrize(
    ("question", "fields"),
    [
        ("How do I use the <img> tag and <video> in HTML?", {}),
        ('<img src="a.png"> is HTML', {}),
        ("[IMG]http://x/y.png[/IMG] is what forums write", {}),
        ("<image>\nCompare <image1> with itself.", {"image": "a"}),
        ("a < b and c[img] > d", {}),
        ("List<Image> in C# [IMG] [3]", {}),
        ("<video>\nQ", {"video": "v.mp4"}),
    ],
)
def test_ordinary_texts_are_unchanged(question: str, fields: dict[str, Any]) -> None:
    found = read(question, **fields)
    assert found.texts[0] == question and not found.flags
    assert found.problem.partition(":")[0] in ("", "video")


def test_objects_of_ms_swift_are_filled() -> None:
    objects = {"ref": ["the cat", "a dog"], "bbox": [[1, 2, 3, 4], [5, 6, 7, 8]]}
    found = read(
        "<image>Where is <ref-object>?",
        "<bbox>, <ref-object> at <bbox>",
        image="a",
        objects=objects,
    )
    assert found.texts == ["<image>Where is the cat?", "[(1,2),(3,4)], a dog at [(5,6),(7,8)]"]
    assert found.flags == llava.GROUNDING_FILLED and not found.problem
    for wrong in ({"ref": ["x"]}, {"bbox": [[1, 2, 3, 4]]}, None, {}, [{"caption": "x"}]):
        assert read("<image><ref-object> <bbox>", image="a", objects=wrong).problem.startswith(
            "grounding: "
        )
    assert read("<image><bbox>", image="a").problem.startswith("grounding: ")


def test_grounding_tags_are_noted() -> None:
    found = read("<image>Find it.", "<ref>cat</ref><box>(1,2),(3,4)</box>", image="a")
    assert found.flags == llava.GROUNDING_TAGS and not found.problem


def test_rows_that_differ_in_objects_only_are_different(tmp_path: Path) -> None:
    rows = [row("<bbox>?", objects={"ref": [], "bbox": [[i, i, 9, 9]]}) for i in range(3)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert len(set(digests_to_bytes(open_pool(tmp_path / "p.jsonl").digest))) == 3


@pytest.mark.parametrize(
    "format", ["sharegpt", "llamafactory", "messages", "swift", "llava-jsonl", "llava-json"]
)
def test_other_formats_and_our_own_give_the_same_rows(tmp_path: Path, format: str) -> None:
    rows = [
        row("Picture 1: <img>a.png</img>\nQ", id=1),
        row("See <image2>, then <image1>.", id=2, image=["a.png", "b.png"]),
        row("<|image|>Q", id=3, image="b.png"),
        row(
            "Where is <ref-object>?",
            "<bbox>",
            id=4,
            objects={"ref": ["it"], "bbox": [[1, 2, 3, 4]]},
        ),
    ]
    pool_file = tmp_path / "in" / "p.jsonl"
    pool_file.parent.mkdir()
    pool_file.write_text("\n".join(map(json.dumps, rows)))
    for name in ("a", "b"):
        (pool_file.parent / f"{name}.png").write_bytes(b"\x89PNG " + name.encode())
    pool = open_pool(pool_file)
    assert not pool.problems
    out = tmp_path / "in" / ("out" + (".jsonl" if format in ("swift", "llava-jsonl") else ".json"))
    exporters.export(pool, range(4), out, format)
    again = open_pool(out, pool_file.parent)
    assert [s.turns for s in again.samples(range(4))] == [s.turns for s in pool.samples(range(4))]
    assert [[i.path for i in s.images] for s in again.samples(range(4))] == [
        [i.path for i in s.images] for s in pool.samples(range(4))
    ]


@pytest.mark.parametrize("name", ["qwen1.json", "numbered.json", "tokens.json"])
def test_reported_case(name: str) -> None:
    if not CASE.is_dir():
        pytest.skip("../shared/cases is not beside this checkout")
    pool = open_pool(CASE / name, CASE if name == "qwen1.json" else CASE / "images")
    assert not pool.problems and not pool.facts["missing_images"].any()
    for sample in pool.samples(range(len(pool))):
        assert sum(t.text.count("<image>") for t in sample.turns) == len(sample.images) > 0
    assert "marker-read" in {f.kind for f in diagnose(pool).findings}
