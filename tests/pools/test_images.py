"""Pixels: every mode becomes RGB, every bad file an ImageError, and no path leaves the folder."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thresher.errors import ImageError
from thresher.pools.images import MAX_PIXELS, decode, load_rgb
from thresher.pools.paths import unsafe_path_reason
from thresher.types import ImageRef


def encoded(image: Image.Image, form: str = "PNG", **options) -> io.BytesIO:
    out = io.BytesIO()
    image.save(out, form, **options)
    out.seek(0)
    return out


def pixel(image: Image.Image, form: str = "PNG", at=(0, 0), **options):
    rgb, _ = decode(encoded(image, form, **options), "x")
    assert rgb.mode == "RGB" and rgb.size == image.size
    return rgb.getpixel(at)


# -------------------------------------------------------------------------------------------- modes


def test_rgb_grey_and_bilevel():
    assert pixel(Image.new("RGB", (3, 2), (1, 2, 3))) == (1, 2, 3)
    assert pixel(Image.new("L", (3, 2), 77)) == (77, 77, 77)
    assert pixel(Image.new("1", (3, 2), 1)) == (255, 255, 255)


def test_transparency_is_composited_on_white():
    assert pixel(Image.new("RGBA", (2, 2), (255, 0, 0, 0))) == (255, 255, 255)
    assert pixel(Image.new("RGBA", (2, 2), (9, 8, 7, 255))) == (9, 8, 7)
    red, green, blue = pixel(Image.new("RGBA", (2, 2), (255, 0, 0, 128)))
    assert red == 255 and green == blue and abs(green - 127) <= 1
    assert pixel(Image.new("LA", (2, 2), (0, 0))) == (255, 255, 255)
    assert pixel(Image.new("LA", (2, 2), (40, 255))) == (40, 40, 40)


def test_palette_with_and_without_transparency():
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert pixel(image) == (10, 200, 30)
    assert pixel(image, transparency=1) == (255, 255, 255)
    assert pixel(image, "GIF") == (10, 200, 30)
    assert pixel(Image.new("RGB", (2, 2), (5, 6, 7)), transparency=(5, 6, 7)) == (255, 255, 255)


def test_cmyk_jpeg():
    red, green, blue = pixel(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    assert red > 220 and green < 60 and blue < 60


def test_sixteen_bits_are_scaled():
    image = Image.fromarray(np.full((2, 2), 0x8040, np.uint16))
    assert pixel(image) == (128, 128, 128)
    assert pixel(image, "TIFF") == (128, 128, 128)
    assert pixel(Image.fromarray(np.full((2, 2), 300, np.uint16))) == (1, 1, 1)  # dark stays dark


def test_float_and_32_bit_tiff():
    assert pixel(
        Image.fromarray(np.array([[0.0, 1.0], [0.5, 0.0]], np.float32)), "TIFF", at=(1, 0)
    ) == (255, 255, 255)
    assert pixel(Image.fromarray(np.full((2, 2), 200, np.int32)), "TIFF") == (200, 200, 200)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), c) for c in ((255, 0, 0), (0, 255, 0))]
    rgb, form = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "x")
    assert rgb.getpixel((0, 0)) == (255, 0, 0) and form == "GIF"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(orientation):
    from PIL import ImageOps

    image = Image.fromarray((np.arange(6 * 4 * 3) * 3 % 256).astype(np.uint8).reshape(4, 6, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(image, "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    file.seek(0)
    assert decode(file, "x")[0].tobytes() == expected.tobytes()
    assert expected.size == ((4, 6) if orientation > 4 else (6, 4))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_ignored():
    content = encoded(
        Image.new("RGB", (4, 4), (10, 20, 30)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"
    ).getvalue()
    assert decode(io.BytesIO(content), "x")[0].size == (4, 4)


def test_one_pixel():
    assert pixel(Image.new("RGB", (1, 1), (1, 2, 3))) == (1, 2, 3)


# ---------------------------------------------------------------------------------------- bad files


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("width", "height"),
    [(20_000, 20_000), (12_000, 9_000), (2**31 - 1, 2**31 - 1), (MAX_PIXELS + 1, 1)],
)
def test_bombs_are_refused_from_their_header(width, height):
    with pytest.raises(ImageError, match="pixels"):
        decode(io.BytesIO(png_header(width, height)), "x")


def test_limit_is_the_number_of_pixels():
    file = encoded(Image.new("RGB", (10, 10)))
    assert decode(file, "x", max_pixels=100)
    file.seek(0)
    with pytest.raises(ImageError, match="10 x 10 pixels, more than 99 allowed"):
        decode(file, "x", max_pixels=99)


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b"<html>404 not found</html>", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "broken image|not an image"),
        (png_header(4, 4), "broken image"),
        (encoded(noise()).getvalue()[:3000], "broken image"),
        (encoded(noise(), "JPEG").getvalue()[:1500], "broken image"),
        (encoded(noise(), "GIF").getvalue()[:900], "broken image"),
        (encoded(noise(), "WEBP").getvalue()[:900], "broken image|not an image"),
        (encoded(noise(), "TIFF").getvalue()[:900], "broken image|not an image"),
    ],
)
def test_bad_files_are_image_errors(content, words):
    with pytest.raises(ImageError, match=f"^name: ({words})"):
        decode(io.BytesIO(content), "name")


@pytest.mark.filterwarnings("ignore")
def test_flipped_bytes_never_raise_anything_else():
    rng = np.random.default_rng(1)
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        good = np.frombuffer(encoded(noise().resize((16, 16)), form).getvalue(), np.uint8)
        for _ in range(60):
            bad = good.copy()
            at = rng.integers(0, len(bad), 8)
            bad[at] = rng.integers(0, 256, 8)
            try:
                decode(io.BytesIO(bad.tobytes()), "x", max_pixels=1_000_000)
            except ImageError:
                continue


# -------------------------------------------------------------------------------------------- paths


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """images/ok.png, images/deep/ok.png, and a secret image beside the folder."""
    (tmp_path / "images/deep").mkdir(parents=True)
    for name in ("images/ok.png", "images/deep/ok.png", "secret.png", "images2.png"):
        Image.new("RGB", (2, 2), (9, 9, 9)).save(tmp_path / name)
    return tmp_path


def read(world: Path, path: str, size: int | None = None):
    folder = os.path.realpath(world / "images")
    if size is None:
        size = (world / "secret.png").stat().st_size  # every image here is the same
    return load_rgb(folder, ImageRef(path, size=size, trusted=True))


@pytest.mark.parametrize(
    "path", ["ok.png", "./ok.png", "deep/ok.png", "deep//ok.png", "deep/./ok.png"]
)
def test_paths_inside_are_read(world, path):
    assert read(world, path).getpixel((0, 0)) == (9, 9, 9)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret.png", "unsafe-path"),
        ("../../etc/passwd", "unsafe-path"),
        ("deep/../../secret.png", "unsafe-path"),
        ("deep/../ok.png", "unsafe-path"),
        ("..", "unsafe-path"),
        ("..\\secret.png", "unsafe-path"),
        ("deep\\..\\..\\secret.png", "unsafe-path"),
        ("./../secret.png", "unsafe-path"),
        ("/etc/passwd", "unsafe-path"),
        ("//etc/passwd", "unsafe-path"),
        ("\\\\host\\share\\x.png", "unsafe-path"),
        ("C:\\x.png", "unsafe-path"),
        ("c:/x.png", "unsafe-path"),
        ("ok.png\0.jpg", "unsafe-path"),
        ("http://host/x.png", "remote-url"),
        ("HTTPS://host/x.png", "remote-url"),
        ("s3://bucket/x.png", "remote-url"),
        ("file:///etc/passwd", "remote-url"),
        ("data:image/png;base64,AAAA", "remote-url"),
    ],
)
def test_paths_that_could_leave_are_refused_unread(world, path, reason):
    assert unsafe_path_reason(path).startswith(reason)
    with pytest.raises(ImageError, match=reason):
        read(world, path)


def test_absolute_path_into_the_folder_is_refused(world):
    with pytest.raises(ImageError, match=r"absolute path; .*--images"):
        read(world, str(world / "images/ok.png"))


@pytest.mark.parametrize(
    "path",
    [
        "%2e%2e/secret.png",
        "..%2fsecret.png",
        ".../secret.png",
        "~/x.png",
        "ok.png/x",
        "no.png",
        "\ud800.png",
        "x" * 5000,
    ],
)
def test_odd_spellings_are_just_missing_files(world, path):
    with pytest.raises(ImageError) as caught:
        read(world, path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


def test_links_out_of_the_folder_are_refused(world):
    images = world / "images"
    (images / "file.png").symlink_to(world / "secret.png")
    (images / "up").symlink_to(world)
    (images / "relative.png").symlink_to("../secret.png")
    (images / "chain.png").symlink_to("relative.png")
    for path in ("file.png", "up/secret.png", "relative.png", "chain.png"):
        with pytest.raises(ImageError, match="symbolic link leads out"):
            read(world, path)
    (images / "loop.png").symlink_to("loop.png")
    with pytest.raises(ImageError):
        read(world, "loop.png")


def test_sibling_folder_with_the_same_prefix_is_outside(world):
    (world / "images-private").mkdir()
    Image.new("RGB", (2, 2)).save(world / "images-private/x.png")
    (world / "images/link").symlink_to(world / "images-private")
    with pytest.raises(ImageError, match="symbolic link"):
        read(world, "link/x.png")


def test_links_inside_the_folder_and_a_linked_folder_work(world):
    (world / "images/alias.png").symlink_to("deep/ok.png")
    assert read(world, "alias.png")
    (world / "linked").symlink_to(world / "images")
    assert load_rgb(
        os.path.realpath(world / "linked"),
        ImageRef("ok.png", size=(world / "secret.png").stat().st_size, trusted=True),
    )


def test_only_plain_files_are_opened(world):
    with pytest.raises(ImageError, match="not a plain file"):
        read(world, "deep")
    os.mkfifo(world / "images/pipe")
    with pytest.raises(ImageError, match="not a plain file"):  # and does not wait for a writer
        read(world, "pipe")
    with pytest.raises(ImageError, match="not a plain file"):
        read(world, "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(world):
    (world / "images/ok.png").chmod(0)
    with pytest.raises(ImageError, match="cannot be read"):
        read(world, "ok.png")


def test_changed_size_is_reported(world):
    with pytest.raises(ImageError, match="it had 5 bytes"):
        read(world, "ok.png", size=5)
    with pytest.raises(ImageError, match="there was no such file"):
        read(world, "ok.png", size=-1)


def test_embedded_bytes(world):
    data = (world / "secret.png").read_bytes()
    assert load_rgb("/nowhere", ImageRef(data=data)).size == (2, 2)
    with pytest.raises(ImageError, match="embedded image: "):
        load_rgb("/nowhere", ImageRef(data=data[:40]))
