"""Signatures estimate similarity, bands find near items, and distant items are not matched."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from thresher.duplicates import image, text
from thresher.duplicates.candidates import NEIGHBOURS, candidate_pairs, hash_rows
from thresher.duplicates.near import near_images, near_texts
from thresher.errors import MissingExtra


def words(rng: np.random.Generator, n: int) -> list[str]:
    return [f"w{i}" for i in rng.integers(0, 5000, n)]


def jaccard(a: str, b: str) -> float:
    one, two = set(text.shingles(a)), set(text.shingles(b))
    return len(one & two) / len(one | two)


def changed(rng: np.random.Generator, message: list[str], many: int) -> list[str]:
    out = list(message)
    for i in rng.choice(len(out), many, replace=False):
        out[i] = "new" + out[i]
    return out


def test_similarity_estimates_jaccard() -> None:
    rng = np.random.default_rng(0)
    base = [words(rng, 80) for _ in range(100)]
    other = [changed(rng, message, i % 20) for i, message in enumerate(base)]
    a, b = ([" ".join(s) for s in many] for many in (base, other))
    error = text.similarity(text.signatures(a), text.signatures(b)) - [
        jaccard(x, y) for x, y in zip(a, b, strict=True)
    ]
    # a standard deviation is at most 0.045
    assert np.abs(error).max() < 0.17 and abs(error.mean()) < 0.015


def test_only_near_texts_are_found() -> None:
    rng = np.random.default_rng(1)
    base = [" ".join(words(rng, 120)) for _ in range(2000)]
    near = [
        " ".join(changed(rng, message.split(), 2)) for message in base[:500]
    ]  # similarity of 0.9
    far = [" ".join(changed(rng, message.split(), 30)) for message in base[500:700]]  # of 0.3
    found = near_texts(text.signatures(base + near + far))
    expected = {(i, 2000 + i) for i in range(500)}
    assert {tuple(p) for p in found.tolist()} == expected


def test_another_answer_to_the_same_long_question_is_not_near() -> None:
    rng = np.random.default_rng(2)
    question = " ".join(words(rng, 100))
    answers = [" ".join(words(rng, 50)) for _ in range(200)]
    answers += [" ".join(changed(rng, answers[3].split(), 1))]
    asked, answered = text.signatures([question] * 201), text.signatures(answers)
    assert near_texts(asked, answered).tolist() == [[3, 200]]


def test_one_word_distinguishes_short_questions() -> None:
    a, b, c = text.signatures(
        [
            "is there a red circle in it?",
            "is there a red square in it?",
            "Is there a red circle in it".lower(),
        ]
    )
    assert text.similarity(a[None], b[None])[0] == 0 and text.similarity(a[None], c[None])[0] == 1


@pytest.mark.parametrize("message", ["", "?!", "赤い丸がありますか", "a b"])
def test_texts_without_words_or_spaces_have_a_signature(message: str) -> None:
    one, same, other = text.signatures([message, message, "something else altogether"])
    assert (one == same).all() and text.similarity(one[None], other[None])[0] < 1
    assert (text.from_bytes(text.as_bytes(one[None])) == one).all()


def test_signatures_do_not_depend_on_other_texts() -> None:
    alone = text.signatures(["one two three four"])
    assert (text.signatures(["x y z", "one two three four", "x y z"])[1] == alone[0]).all()


def test_signatures_are_pinned() -> None:
    """Stored signatures are compared with new ones: if this changes, raise text.ALGORITHM."""
    found = text.signatures(["the quick brown fox jumps over the lazy dog"])[0]
    assert found[:4].tolist() == PINNED and found[-1] == 9


PINNED = [39965, 35514, 7002, 47686]


def test_large_buckets_are_linear_and_joined_by_union() -> None:
    n = 5000
    value = np.arange(n, dtype=np.uint64)
    asked = 0

    def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += len(a)
        return np.ones(len(a), bool)

    found = candidate_pairs([np.zeros(n, np.uint64)], value, same)
    assert asked <= (NEIGHBOURS + 1) * n
    assert (text.connected_components(n, found) == 0).all()
    assert not len(candidate_pairs([value], value, same))


def test_components_equal_a_graph_search() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        n = int(rng.integers(1, 40))
        edges = rng.integers(0, n, (int(rng.integers(0, 30)), 2))
        beside: dict[int, list[int]] = {i: [] for i in range(n)}
        for a, b in edges.tolist():
            beside[a].append(b)
            beside[b].append(a)
        expected = np.full(n, -1)
        for i in range(n):
            todo = [i] if expected[i] < 0 else []
            while todo:
                at = todo.pop()
                if expected[at] < 0:
                    expected[at] = i
                    todo += beside[at]
        assert text.connected_components(n, edges).tolist() == expected.tolist()


def test_hashes_distinguish_rows() -> None:
    table = np.random.default_rng(4).integers(0, 2, (5000, 13)).astype(np.uint8)
    assert len(np.unique(hash_rows(table))) == len(np.unique(table, axis=0))


# ----------------------------------------------------------------------------------------- images


def picture(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def marks(images: list[Image.Image]) -> np.ndarray:
    return np.frombuffer(b"".join(image.image_signature(i).mark for i in images), image.PERCEPTUAL)


def saved(of: Image.Image, form: str, **how: int) -> Image.Image:
    file = io.BytesIO()
    of.save(file, form, **how)
    return Image.open(file).convert("RGB")


def test_reencoded_images_are_similar() -> None:
    base = [picture(i) for i in range(60)]
    again = [
        [
            saved(i, "JPEG", quality=70),
            i.resize((320, 240)),
            i.resize((80, 60)),
            saved(i, "WEBP", quality=80),
        ][k % 4]
        for k, i in enumerate(base)
    ]
    found = near_images(marks(base + again))
    assert {tuple(p) for p in found.tolist()} == {(i, 60 + i) for i in range(60)}


def test_changes_that_make_images_different() -> None:
    base = picture(0)
    part = base.copy()
    part.paste((255, 0, 0), (0, 0, 40, 30))
    grey = base.convert("L").convert("RGB")
    others = [
        part,
        grey,
        base.resize((120, 160)),
        base.rotate(180),
        base.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    ]
    assert not len(near_images(marks([base, *others])))


def test_flat_images_are_distinguished_by_colour() -> None:
    flat = [
        Image.new("RGB", (64, 64), c) for c in ((200, 0, 0), (0, 200, 0), (90, 90, 90), (200, 0, 2))
    ]
    assert near_images(marks(flat)).tolist() == [[0, 3]]


def test_equal_pixels_have_equal_content_whatever_the_file() -> None:
    base = picture(1)
    assert (
        image.image_signature(base).content
        == image.image_signature(saved(base, "PNG")).content
        == image.image_signature(saved(base, "BMP")).content
    )
    assert (
        image.image_signature(base).content
        != image.image_signature(saved(base, "JPEG", quality=95)).content
    )


def test_without_the_packages_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rensa", None)
    monkeypatch.setitem(__import__("sys").modules, "imagehash", None)
    with pytest.raises(MissingExtra, match=r'pip install "thresher\[duplicates\]"'):
        text.signatures(["a"])
    with pytest.raises(MissingExtra, match=r'pip install "thresher\[duplicates\]"'):
        image.image_signature(picture(0))
