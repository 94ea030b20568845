"""Irregular WebDataset tars are read correctly or reported, never read as a plausible wrong
row."""

from __future__ import annotations

import codecs
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from thresher.doctor import diagnose
from thresher.errors import PoolError
from thresher.pools import Pool, open_pool

CASES = Path(__file__).parents[2].parent / "shared" / "cases"


def image(shade: int, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), (shade, shade, shade)).save(out, form)
    return out.getvalue()


def record(question: str = "Q", **fields: Any) -> bytes:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "A"}]
    return json.dumps({**fields, "conversations": turns}).encode()


def tar(file: Path, *members: tuple[str, bytes], links: tuple[tuple[str, str], ...] = ()) -> Path:
    with tarfile.open(file, "w") as out:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            out.addfile(info)
    return file


def shades(pool: Pool, row: int) -> list[int]:
    return [pool.load_image(ref).getpixel((0, 0))[0] for ref in pool.sample(row).images]


def notes(pool: Pool) -> str:
    return "\n".join(pool.notes)


# ------------------------------------------------------------------------- which members are images


@pytest.mark.parametrize("suffix", ["avif", "jp2", "ppm", "ico", "xyz", "image.dat", "0"])
def test_images_are_recognised_by_content(suffix: str, tmp_path: Path) -> None:
    form = {"avif": "AVIF", "jp2": "JPEG2000", "ppm": "PPM", "ico": "ICO"}.get(suffix, "WEBP")
    try:
        content = image(90, form)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {form}")
    file = tar(
        tmp_path / "a.tar",
        *((f"00{i}.{s}", c) for i in range(3) for s, c in ((suffix, content), ("txt", b"A"))),
    )
    pool = open_pool(file)
    assert (
        len(pool) == 3
        and pool.facts["images"].tolist() == [1, 1, 1]
        and not pool.problems
        and not pool.notes
    )
    assert abs(shades(pool, 2)[0] - 90) <= 4


def test_member_with_an_image_name_is_the_image_of_its_row(
    tmp_path: Path,
) -> None:
    bad = {
        "jpg": b"<html></html>",
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "png": b"",
        "svg": b"<svg/>",
    }
    pool = open_pool(
        tar(
            tmp_path / "a.tar",
            *(
                m
                for s, c in bad.items()
                for m in ((f"{s}.{s}", c), (f"{s}.json", record("<image>")))
            ),
        )
    )
    found = {f.kind: f.rows for f in diagnose(pool, near=False, workers=1).findings}
    assert (
        found == {"not-an-image": 3, "unreadable": 1}
        and "png.png of sample png is empty" in pool.problems[2]
    )


def test_ignored_members_are_reported_with_counts(tmp_path: Path) -> None:
    members = [("README", b"hello"), (".DS_Store", b"x"), ("__meta__.json", b"{}")]
    for i in range(3):
        members += [
            (f"{i}.jpg", image(i, "JPEG")),
            (f"{i}.json", record()),
            (f"{i}.cls", b"3"),
            (f"{i}.txt", b"T"),
        ]
    members += [("2.npy", b"\x93NUMPY")]
    pool = open_pool(tar(tmp_path / "a.tar", *members))
    assert len(pool) == 3 and not pool.problems
    assert (
        "8 members were ignored: .cls (3), .txt beside a json (3), .npy (1), README (1)"
        in notes(pool)
    )
    with pytest.raises(PoolError, match=r"holds no sample \(its members: \.npy \(2\)\)"):
        open_pool(tar(tmp_path / "b.tar", ("0.npy", b"1"), ("1.npy", b"2")))


def test_videos_and_audio_are_not_text_only(tmp_path: Path) -> None:
    pool = open_pool(
        tar(
            tmp_path / "a.tar",
            ("0.mp4", b"v"),
            ("0.txt", b"A"),
            ("1.mp4", b"w"),
            ("1.json", record()),
        )
    )
    assert pool.facts["video"].tolist() == [True, True] and set(pool.problems) == {0, 1}


# ---------------------------------------------------------------------------------- order of images


def test_numbers_are_sorted_numerically(tmp_path: Path) -> None:
    names = sorted(f"a.{prefix}{i}.png" for prefix in ("",) for i in range(12))
    pool = open_pool(
        tar(
            tmp_path / "a.tar",
            *((n, image(int(n.split(".")[1]))) for n in names),
            ("a.json", record()),
        )
    )
    assert shades(pool, 0) == list(range(12))
    names = sorted(f"a.frame_{i}.png" for i in range(8, 12))
    pool = open_pool(
        tar(tmp_path / "b.tar", *((n, image(int(n[8:-4]))) for n in names), ("a.json", record()))
    )
    assert shades(pool, 0) == [8, 9, 10, 11] and not pool.notes
    zeros = [
        ("a.010.png", image(10)),
        ("a.9.png", image(9)),
        (f"a.{'1' * 5000}.png", image(11)),
        ("a.00.png", image(0)),
    ]
    pool = open_pool(tar(tmp_path / "z.tar", *zeros, ("a.json", record())))
    assert shades(pool, 0) == [0, 9, 10, 11]
    pool = open_pool(
        tar(tmp_path / "c.tar", ("a.1.png", image(1)), ("a.png", image(0)), ("a.json", record()))
    )
    assert shades(pool, 0) == [0, 1]


@pytest.mark.parametrize(
    "named",
    [
        ["a.right.png", "a.left.png"],
        ["right.png", "left.png"],
        ["right", "left"],
        ["x/a.right.png", "x/a.left.png"],
    ],
)
def test_image_list_of_the_record_takes_precedence(named: list[str], tmp_path: Path) -> None:
    both = (("a.left.png", image(1)), ("a.right.png", image(2)))
    assert shades(
        open_pool(tar(tmp_path / "a.tar", *both, ("a.json", record(images=named)))), 0
    ) == [2, 1]
    objects = [{"path": name} for name in named]
    assert shades(
        open_pool(tar(tmp_path / "b.tar", ("a.json", record(image=objects)), *both)), 0
    ) == [2, 1]
    one = open_pool(tar(tmp_path / "c.tar", *both, ("a.json", record(image=named[0]))))
    assert shades(one, 0) == [2] and "images that the json does not name (1)" in notes(one)


def test_images_named_in_the_parts_of_messages(tmp_path: Path) -> None:
    def messages(*parts: dict[str, Any]) -> bytes:
        asked = [*parts, {"type": "text", "text": "Q"}]
        turns = [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": [{"type": "text", "text": "A"}]},
        ]
        return json.dumps({"messages": turns}).encode()

    both = (("a.left.png", image(1)), ("a.right.png", image(2)))
    for parts in (
        [{"type": "image", "image": "a.right.png"}, {"type": "image", "image": "a.left.png"}],
        [
            {"type": "image_url", "image_url": {"url": "right.png"}},
            {"type": "image_url", "image_url": {"url": "left.png"}},
        ],
    ):
        pool = open_pool(tar(tmp_path / "a.tar", *both, ("a.json", messages(*parts))))
        assert shades(pool, 0) == [2, 1] and not pool.problems and not pool.notes
    pool = open_pool(
        tar(tmp_path / "b.tar", *both, ("a.json", messages({"type": "image"}, {"type": "image"})))
    )
    assert shades(pool, 0) == [1, 2] and not pool.problems


def test_numeric_names_keep_their_source(tmp_path: Path) -> None:
    """As our own export writes them: the json keeps the paths that the images had, the members
    count from 0."""
    members = (
        ("a.0.png", image(7)),
        ("a.1.png", image(8)),
        ("a.json", record(image=["1.png", "0.png"])),
    )
    pool = open_pool(tar(tmp_path / "a.tar", *members))
    assert shades(pool, 0) == [7, 8] and "in the order of the tar (a.0.png, a.1.png)" in notes(pool)
    named = (("12.png", image(7)), ("12.mask.png", image(8)), ("12.json", record(image="12.png")))
    assert shades(open_pool(tar(tmp_path / "c.tar", *named)), 0) == [7]
    members = (*members[:2], ("a.json", record(image=["0.png", "1.png"])))
    assert not open_pool(tar(tmp_path / "b.tar", *members)).notes


def test_undefined_image_order_gives_a_note(tmp_path: Path) -> None:
    pool = open_pool(
        tar(
            tmp_path / "a.tar",
            ("a.left.png", image(1)),
            ("a.right.png", image(2)),
            ("a.json", record()),
        )
    )
    assert shades(pool, 0) == [
        1,
        2,
    ] and "in the order of the tar (a.left.png, a.right.png)" in notes(pool)


# ----------------------------------------------------------------------- samples that are not whole


@pytest.mark.parametrize("text", [("json", record("<image>")), ("txt", b"A")])
@pytest.mark.parametrize("images_first", [True, False])
def test_members_that_are_not_adjacent(
    text: tuple[str, bytes], images_first: bool, tmp_path: Path
) -> None:
    images = [(f"0{i}.png", image(i)) for i in range(4)]
    texts = [(f"0{i}.{text[0]}", text[1]) for i in range(4)]
    members = [*images, *texts] if images_first else [*texts, *images]
    with pytest.raises(PoolError, match=r"members of 4 of 4 samples are not neighbours .*Sort it"):
        open_pool(tar(tmp_path / "a.tar", *members))
    whole = [m for pair in zip(images, texts, strict=True) for m in pair]
    pool = open_pool(
        tar(tmp_path / "b.tar", *whole, ("late.png", image(9)), whole[0][:1] + (image(8),))
    )
    # an image without a record; 00.png, a duplicate, too
    assert list(pool.problems) == [4, 5]


def test_members_in_separate_folders(tmp_path: Path) -> None:
    images, texts = (
        [(f"images/{i}.png", image(i)) for i in range(3)],
        [(f"texts/{i}.txt", b"A") for i in range(3)],
    )
    with pytest.raises(PoolError, match=r"in different folders \(images/0.png, texts/0.txt\)"):
        open_pool(tar(tmp_path / "a.tar", *images, *texts))
    same = [
        (f"{folder}/{i}.{s}", c)
        for folder in "ab"
        for i in range(3)
        for s, c in (("png", image(i)), ("txt", b"A"))
    ]
    assert len(open_pool(tar(tmp_path / "b.tar", *same))) == 6
    two = (
        ("a/0.png", image(1)),
        ("a/0.json", record()),
        ("b/0.jpg", image(2, "JPEG")),
        ("b/0.txt", b"A"),
    )
    assert len(open_pool(tar(tmp_path / "d.tar", *two))) == 2
    same_key = [(name.replace("a/", "").replace("b/", ""), content) for name, content in two]
    pool = open_pool(tar(tmp_path / "e.tar", *same_key[:2], *pair(1), *same_key[2:]))
    assert len(pool) == 3 and not pool.problems
    with pytest.raises(PoolError, match=r"sample 0 has an image and no \.json or \.txt"):
        open_pool(tar(tmp_path / "c.tar", *images))


def test_split_sample_is_a_row_problem(tmp_path: Path) -> None:
    whole = [m for i in range(4) for m in ((f"0{i}.png", image(i)), (f"0{i}.txt", b"A"))]
    pool = open_pool(tar(tmp_path / "a.tar", ("z.png", image(9)), *whole, ("z.txt", b"A")))
    assert len(pool) == 5 and list(pool.problems) == [0] and "not neighbours" in pool.problems[0]
    assert "1 of 5 samples are not neighbours" in notes(pool) and shades(pool, 4) == [3]


def test_sample_with_a_missing_image_is_not_text_only(tmp_path: Path) -> None:
    members = [
        ("0.png", image(0)),
        ("0.txt", b"A"),
        ("1.txt", b"A"),
        ("2.png", image(2)),
        ("2.txt", b"A"),
    ]
    pool = open_pool(tar(tmp_path / "a.tar", *members))
    assert pool.problems == {1: "unreadable: sample 1 has a caption and no image"}
    names = record("<image><image>", images=["3.0.png", "3.1.png"])
    pool = open_pool(tar(tmp_path / "b.tar", *members, ("3.1.png", image(1)), ("3.json", names)))
    assert "names 3.0.png, which is not among its members" in pool.problems[3]
    pool = open_pool(
        tar(tmp_path / "c.tar", *members[:2], ("4.json", record("<image>Q", image="4.png")))
    )
    assert pool.facts["missing_images"].tolist() == [False, True]
    pool = open_pool(
        tar(tmp_path / "d.tar", ("5.json", record()), ("6.png", image(1)), ("6.json", record()))
    )
    assert not pool.problems and "1 of 2 samples have no image and are text-only rows" in notes(
        pool
    )
    pool = open_pool(
        tar(tmp_path / "e.tar", *members[:2], ("7.txt", b"A"), links=(("7.png", "0.png"),))
    )
    assert "7.png is a link" in pool.problems[1]


def test_duplicate_members_and_keys(tmp_path: Path) -> None:
    twice = [
        ("0.png", image(0)),
        ("0.json", record("a")),
        ("0.json", record("b")),
        ("1.png", image(1)),
        ("1.json", record()),
    ]
    pool = open_pool(tar(tmp_path / "a.tar", *twice))
    assert list(pool.problems) == [0] and "0.json is in the tar twice" in pool.problems[0]
    pool = open_pool(tar(tmp_path / "b.tar", *twice[:2], *twice[3:], *twice[:2]))
    assert (
        not pool.problems
        and len(pool) == 3
        and "1 sample has the key of an earlier one" in notes(pool)
    )
    pool = open_pool(tar(tmp_path / "c.tar", twice[0], *twice[:2]))
    assert not pool.problems and "duplicate members (1)" in notes(pool)


# ------------------------------------------------------------------------------------- dots in keys


@pytest.mark.parametrize(
    "names",
    [("v1.5_001", "v1.5_002", "v1.5_003"), ("img.1", "img.2", "img.10"), ("a.b.c", "a.b.d")],
)
@pytest.mark.parametrize("text", [("json", record("<image>")), ("txt", b"A")])
def test_dots_in_keys(names: tuple[str, ...], text: tuple[str, bytes], tmp_path: Path) -> None:
    members = [
        m
        for i, n in enumerate(names)
        for m in ((f"d.1/{n}.png", image(i)), (f"d.1/{n}.{text[0]}", text[1]))
    ]
    pool = open_pool(tar(tmp_path / "a.tar", *members))
    assert len(pool) == len(names) and not pool.problems
    assert [shades(pool, i) for i in range(len(names))] == [[i] for i in range(len(names))]
    if text[0] == "txt":
        assert pool.ids(range(len(names))) == list(names)
    split = [m for m in members if m[0].endswith(".png")] + [
        m for m in members if not m[0].endswith(".png")
    ]
    with pytest.raises(PoolError, match="not neighbours"):
        open_pool(tar(tmp_path / "b.tar", *split))


def test_several_images_and_records_of_one_key_stay_one_sample(tmp_path: Path) -> None:
    members = [
        ("0.left.png", image(1)),
        ("0.right.png", image(2)),
        ("0.json", record()),
        ("0.meta.json", b"{}"),
    ]
    pool = open_pool(tar(tmp_path / "a.tar", *members))
    assert (
        len(pool) == 1
        and shades(pool, 0) == [1, 2]
        and ".meta.json beside the record (1)" in notes(pool)
    )
    pool = open_pool(
        tar(
            tmp_path / "b.tar",
            ("0.png", image(1)),
            ("0.a.json", record()),
            ("0.b.json", record()),
            *pair(1),
        )
    )
    assert list(pool.problems) == [0] and "has 2 records" in pool.problems[0]


def pair(number: int) -> tuple[tuple[str, bytes], ...]:
    return (f"{number}.png", image(number)), (f"{number}.txt", b"A")


# -------------------------------------------------------------------------------------- texts, ends


def test_byte_order_marks_are_skipped(tmp_path: Path) -> None:
    bom = codecs.BOM_UTF8
    pool = open_pool(
        tar(
            tmp_path / "a.tar",
            ("0.png", image(0)),
            ("0.json", bom + record("<image>Q")),
            ("1.png", image(1)),
            ("1.txt", bom + b"A"),
        )
    )
    assert [s.turns[1].text for s in pool.samples([0, 1])] == ["A", "A"] and not pool.problems
    wide = tar(
        tmp_path / "b.tar",
        *pair(0),
        ("1.png", image(1)),
        ("1.txt", codecs.BOM_UTF16_LE + "A".encode("utf-16-le")),
    )
    assert "UTF-16" in open_pool(wide).problems[1]


def test_data_after_the_end_of_a_tar_is_reported(tmp_path: Path) -> None:
    one, two = tar(tmp_path / "a.tar", *pair(0)), tar(tmp_path / "b.tar", *pair(1))
    (tmp_path / "c.tar").write_bytes(one.read_bytes() + two.read_bytes())
    with pytest.raises(PoolError, match="joined with cat"):
        open_pool(tmp_path / "c.tar")
    (tmp_path / "d.tar").write_bytes(one.read_bytes() + b"signature")
    assert "bytes after its end-of-archive mark" in notes(open_pool(tmp_path / "d.tar"))


def test_second_opening_equals_the_first(tmp_path: Path) -> None:
    file = tar(
        tmp_path / "a.tar",
        ("x.b.png", image(3)),
        ("x.a.png", image(4)),
        ("x.json", record()),
        ("y.txt", b"A"),
        *pair(1),
    )
    first, again = (open_pool(file, cache=tmp_path / "cache") for _ in range(2))
    assert first.notes == again.notes and first.problems == again.problems
    assert first.samples(range(3)) == again.samples(range(3))


@pytest.mark.skipif(not CASES.is_dir(), reason="the reported cases are not in this checkout")
def test_reported_cases() -> None:
    for name in (
        "04-tar-image-suffixes/avif.tar",
        "04-tar-image-suffixes/jp2.tar",
        "09-tar-bom/bom.tar",
    ):
        pool = open_pool(CASES / name)
        assert pool.facts["images"].tolist() == [1] * 4 and not pool.problems
    captions = open_pool(CASES / "09-tar-bom/bomtxt.tar")
    assert captions.sample(0).turns[1].text == "caption 0"
    multi = open_pool(CASES / "06-tar-image-order/multi.tar")
    sizes = [304, 304, 303, 305, 304, 300, 302, 298, 302, 304, 303, 303]
    assert [len(ref.data or b"") for ref in multi.sample(1).images] == sizes
    named = open_pool(CASES / "06-tar-image-order/named.tar")
    assert [len(ref.data or b"") for ref in named.sample(1).images] == [300, 306]
    for name in ("nonadj.tar", "nonadj_txt.tar"):
        with pytest.raises(PoolError, match="not neighbours"):
            open_pool(CASES / "07-tar-members-not-adjacent" / name)
