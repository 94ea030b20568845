"""Image formats: an allow-list by content; everything else is reported and not opened."""

from __future__ import annotations

import base64
import io
import os
import struct
import subprocess
import sys
import time
import unicodedata
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from thresher.doctor import diagnose
from thresher.errors import ImageError
from thresher.pools import open_pool
from thresher.pools.embedded import extension, parse_image
from thresher.pools.image_formats import FORMATS, extension_matches, sniff
from thresher.pools.images import decode

CASES = Path(__file__).parents[2].parent / "shared" / "cases"


def picture(form: str, size: tuple[int, int] = (16, 12), **options: Any) -> bytes:
    pixels = np.random.default_rng(size[0]).integers(0, 255, (size[1], size[0], 3), np.uint8)
    out = io.BytesIO()
    if form == "ICO":  # by default Pillow before 13 writes an icon without any image below 16×16
        options = {"sizes": [size], **options}
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


def rows(names: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": str(i),
            "image": name,
            "conversations": [
                {"from": "human", "value": f"<image>\nQ{i}"},
                {"from": "gpt", "value": f"A{i}"},
            ],
        }
        for i, name in enumerate(names)
    ]


def pool_of(folder: Path, files: dict[str, bytes], paths: list[Any] | None = None) -> Any:
    import json

    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "pool.json").write_text(json.dumps(rows(list(files) if paths is None else paths)))
    return open_pool(folder / "pool.json")


def found(pool: Any) -> dict[str, list[str]]:
    return {
        f.kind: [e.detail for e in f.examples]
        for f in diagnose(pool, near=False, workers=1).findings
    }


SAVED = [f for f in FORMATS if f not in ("AVIF", "JPEG2000")] + [
    f for f, codec in (("AVIF", "avif"), ("JPEG2000", "jpg_2000")) if features.check(codec)
]


@pytest.mark.parametrize("form", SAVED)
def test_each_image_format_is_read_regardless_of_the_name(form: str, tmp_path: Path) -> None:
    content = picture(form)
    assert sniff(content[:512]) == form and decode(io.BytesIO(content), "x")[1] == form
    assert extension_matches(form, extension(content))
    assert parse_image(base64.b64encode(content).decode()) == content
    pool = pool_of(tmp_path, {"a.xyz": content, f"b.{extension(content)}": content})
    assert [k for k in found(pool) if k != "palette-image"] == [
        "image-extension",
        "duplicate-image",
    ]


def test_first_frame_of_multi_image_files_is_read(tmp_path: Path) -> None:
    for form in ("GIF", "TIFF", "WEBP", "MPO"):
        first, second = (Image.new("RGB", (16, 16), c) for c in ((250, 0, 0), (0, 250, 0)))
        out = io.BytesIO()
        first.save(out, form, save_all=True, append_images=[second])
        red, green, _ = decode(io.BytesIO(out.getvalue()), "x")[0].getpixel((8, 8))
        assert red > 200 > 60 > green, form
    assert "image-extension" not in found(pool_of(tmp_path, {"phone.jpg": out.getvalue()}))


@pytest.mark.parametrize(
    "form", ["EPS", "PDF", "PCX", "TGA", "SGI", "MSP", "XBM", "DDS", "ICNS", "BLP", "SPIDER"]
)
def test_other_formats_that_pillow_reads_are_refused(form: str) -> None:
    image = Image.new(
        {"MSP": "1", "XBM": "1", "SPIDER": "F", "BLP": "P"}.get(form, "RGB"), (32, 32)
    )
    out = io.BytesIO()
    image.save(out, form)
    with pytest.raises(ImageError, match="not an image that is read here") as result:
        decode(io.BytesIO(out.getvalue()), "x.png")
    assert result.value.kind == "not-an-image"


@pytest.mark.parametrize(
    "start",
    [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, 90) + bytes(20)],
)
def test_postscript_starts_no_program(start: bytes, tmp_path: Path) -> None:
    body = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    (tmp_path / "evil.png").write_bytes(body if start[:2] == b"%!" else start + body)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (programs / "gs").chmod(0o755)
    code = (
        "import io, sys\n"
        "from thresher.errors import ImageError\n"
        "from thresher.pools.images import decode\n"
        "try:\n"
        "    decode(open(sys.argv[1], 'rb'), 'evil.png')\n"
        "except ImageError as error:\n"
        "    print(error)\n"
        "print('PIL.EpsImagePlugin' in sys.modules)\n"
    )
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "evil.png")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "PostScript" in done.stdout and done.stdout.endswith("False\n"), (
        done.stdout + done.stderr
    )
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("form", ["GIF", "TIFF", "WEBP", "PNG"])
def test_damage_after_the_first_frame_is_ignored(form: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((24, 24, 3), shade, np.uint8)) for shade in (10, 90, 170)]
    out = io.BytesIO()
    frames[0].save(out, form, save_all=True, append_images=frames[1:])
    rng = np.random.default_rng(0)
    files = {}
    for number in range(60):
        content = bytearray(out.getvalue())
        for at in rng.integers(len(content) // 3, len(content), 4).tolist():
            content[at] = int(rng.integers(256))
        files[f"{number}.{extension(out.getvalue())}"] = bytes(content)
    diagnosis = diagnose(pool_of(tmp_path, files), near=False, workers=1)
    assert {f.kind for f in diagnosis.findings if f.severity == "error"} <= {
        "broken-image",
        "huge-image",
        "not-an-image",
    }


def test_images_are_opened_in_one_module_only() -> None:
    source = Path(__file__).parents[2] / "src" / "thresher"
    assert [
        f.name for f in source.rglob("*.py") if "Image.open(" in f.read_text(encoding="utf-8")
    ] == []


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_missing_pillow_codec_is_reported(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = picture(form)
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(
        ImageError, match=f"it is {form}, and the Pillow that is installed was built without it"
    ) as result:
        decode(io.BytesIO(content), "x")
    assert result.value.kind == "not-an-image"
    monkeypatch.undo()
    monkeypatch.setattr(Image, "OPEN", {k: v for k, v in Image.OPEN.items() if k != form})
    with pytest.raises(ImageError, match="built without it"):
        decode(io.BytesIO(content), "x")


FOREIGN = {
    "lfs.jpg": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "git lfs pull",
    ),
    "annex.jpg": (b"/annex/objects/MD5E-s12--abc.jpg\n", "git annex get"),
    "a.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "HEIC"),
    "b.jpg": (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf" + bytes(40), "HEIC"),
    "c.svg": (
        b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        "an SVG drawing",
    ),
    "d.png": (b"\xef\xbb\xbf  <svg width='4'></svg>", "an SVG drawing"),
    "e.jpg": (b"<!DOCTYPE html><html><body>403</body></html>", "an HTML page"),
    "f.jpg": (b"\r\n<html lang=en><head><title>Not found", "an HTML page"),
    "g.jpg": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML document"),
    "h.jpg": (b'{"error": "expired"}', "JSON text"),
    "i.jpg": (b"not found", "plain text"),
    "j.jpg": (bytes(100), "zero bytes"),
    "k.jpg": (b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(40), "a video"),
    "l.jpg": (b"BMW is a car, and this is no bitmap at all.", "plain text"),
    "m.jpg": (base64.b64encode(picture("JPEG")), "base64"),
    "n.png": (b"\xde\xad\xbe\xef\0\1\2", "no known format"),
}


def test_non_images_are_reported_with_a_remedy(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, {name: content for name, (content, _) in FOREIGN.items()})
    diagnosis = diagnose(pool, near=False, workers=1)
    assert [(f.kind, f.rows) for f in diagnosis.findings] == [("not-an-image", len(FOREIGN))]
    for name, (content, words) in FOREIGN.items():
        with pytest.raises(ImageError, match=words):
            decode(io.BytesIO(content), name)


def test_kind_of_a_finding_does_not_depend_on_the_path(tmp_path: Path) -> None:
    cut = picture("JPEG", (64, 64))[:900]
    places = (
        "pixels/a.jpg",
        "empty file/b.jpg",
        "not an image/c.jpg",
        "no such image/d.jpg",
        "unsafe-path/e.jpg",
    )
    pool = pool_of(tmp_path, {name: cut + bytes([i]) for i, name in enumerate(places)})
    assert list(found(pool)) == ["broken-image"]


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "words"), [((9_600, 10_000), "broken image"), ((20_000, 9_000), "pixels, more than")]
)
def test_large_images_give_no_pillow_warning(size: tuple[int, int], words: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=words):
            decode(io.BytesIO(png_header(*size)), "x")


# ------------------------------------------------------------------------------------------- base64


def wrapped(text: str) -> str:
    return "\n".join(text[i : i + 76] for i in range(0, len(text), 76))


def test_base64_without_data_is_an_image(tmp_path: Path) -> None:
    jpeg, png = picture("JPEG"), picture("PNG", (20, 20))
    text = base64.b64encode(jpeg).decode()
    spellings = [
        text,
        wrapped(text),
        text.rstrip("="),
        base64.urlsafe_b64encode(png).decode(),
        {"bytes": text},
    ]
    pool = pool_of(tmp_path, {}, [*spellings, [text, "a.png"]])
    assert not pool.index.embedded.all() and pool.index.embedded.sum() == 2
    assert [s.images[0].data for s in pool.samples(range(5))] == [jpeg, jpeg, jpeg, png, jpeg]
    assert parse_image({"bytes": text.encode()}) == jpeg


def test_invalid_base64_gives_a_short_message(tmp_path: Path) -> None:
    good = base64.b64encode(picture("JPEG", (64, 64))).decode()
    pool = pool_of(tmp_path, {}, [good[:3000] + "*" + good[3000:], good[:2000] + "…", good])
    assert pool.problems == {
        0: "bad-image: an image is base64 text that cannot be decoded instead of a path",
        1: "bad-image: an image is base64 text that cannot be decoded instead of a path",
    }
    # a path like any other
    assert parse_image("/9j/" + "a" * 90 + ".jpg") == "/9j/" + "a" * 90 + ".jpg"


def test_base64_of_something_else_is_no_path(tmp_path: Path) -> None:
    heic = base64.b64encode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(range(256)) * 4).decode()
    svg = base64.b64encode(b"<svg xmlns='x'>" + b" " * 600 + b"</svg>").decode()
    pool = pool_of(tmp_path, {}, [heic, svg, heic[:700] + "*"])
    details = found(pool)
    assert [d.partition(": ")[2] for d in details["not-an-image"]] == [
        "not an image that is read here: a HEIC image (as iPhones write them): convert it to PNG "
        "or JPEG",
        "not an image that is read here: an SVG drawing: draw it as PNG",
    ]
    assert details["bad-image"] == [
        ("an image is base64 text that cannot be decoded instead of a path")
    ]
    long = "/".join(["folder-with-a-long-name"] * 40) + "/image.jpg"
    assert parse_image(long) == long


def test_hostile_base64_takes_no_time() -> None:
    start = base64.b64encode(picture("JPEG", (64, 64))).decode()[:2000]
    for rest in (" " * 1_000_000 + "*", "=" * 1_000_000, "A" * 1_000_000 + "*"):
        began = time.process_time()
        assert parse_image(start + rest) is None
        assert time.process_time() - began < 30


# -------------------------------------------------------------------------------- spelling of paths


@pytest.mark.parametrize(
    ("real", "given", "words"),
    [
        ("img/Photo A.JPG", "img/photo a.jpg", "upper and lower case differ"),
        ("Img/sub/x.png", "img\\sub\\x.png", "separator is / .*upper and lower case differ"),
        ("img/Photo A.jpg", "img/Photo%20A.jpg", "percent-encoded"),
        (
            "img/caf\N{LATIN SMALL LETTER E WITH ACUTE}.jpg",
            "img/cafe\N{COMBINING ACUTE ACCENT}.jpg",
            "NFC or NFD",
        ),
        (
            "img/cafe\N{COMBINING ACUTE ACCENT}.jpg",
            "img/caf\N{LATIN SMALL LETTER E WITH ACUTE}.jpg",
            "NFC or NFD",
        ),
        ("img/a.jpg", " img/a.jpg ", "spaces around"),
    ],
)
def test_file_with_another_spelling_is_suggested(
    real: str, given: str, words: str, tmp_path: Path
) -> None:
    if (
        unicodedata.normalize("NFC", real) != unicodedata.normalize("NFD", real)
        and sys.platform == "darwin"
    ):
        pytest.skip("this file system takes both forms for one")
    pool = pool_of(tmp_path, {real: picture("JPEG")}, [given, "img/none.jpg"])
    details = found(pool)["missing-image"]
    assert len(details) == 2 and "(" not in details[1].partition("none")[2]
    import re

    assert re.search(words, details[0]) and "the file is there as" in details[0]
    notes = [str(note) for note in diagnose(pool, near=False, workers=1).notes]
    assert (
        notes[0].startswith("1 of 2 missing images exist under another spelling")
        and len(notes) == 1
    )
    assert (
        "the file is there as" in pool.missing_image_reasons([0])[0]
        and "there as" not in pool.missing_image_reasons([1])[0]
    )


# ----------------------------------------------------------------------------------- reported cases


@pytest.mark.skipif(not CASES.is_dir(), reason="the reported cases are not in this checkout")
def test_reported_cases() -> None:
    case = CASES / "25-doctor-kind-from-path"
    diagnosis = diagnose(open_pool(case / "pool.json", case / "images"), near=False, workers=1)
    kinds = {f.kind: f.rows for f in diagnosis.findings}
    assert kinds == {"broken-image": 2, "image-extension": 4, "duplicate-image": 1}
    case = CASES / "26-odd-image-files"
    odd = open_pool(case / "pool.json", case / "images")
    assert {f.kind: f.rows for f in diagnose(odd, near=False, workers=1).findings}[
        "not-an-image"
    ] == 4
    for name in ("pool.json", "m.jsonl", "b64.parquet"):
        assert (
            diagnose(open_pool(CASES / "27-base64-without-data" / name), near=False, workers=1).lost
            == 0
        )
