"""Whether a model can judge a pool: the sample, what is measured on it, who is asked then."""

import hashlib

import numpy as np
import pytest

from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.judgement import (
    LEAST_IMAGES,
    IfMeasured,
    ImageSample,
    Judgement,
    RowsToJudge,
    TrustedLoss,
)
from thresher.signals.part_loss import PartLoss
from thresher.signals.skills import Skills
from thresher.types import (
    IMAGE_PLACEHOLDER,
    Columns,
    ModelIdentity,
    Sample,
    Scored,
    Turn,
    digests_to_array,
    seeded_ties,
)

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")
LOSS = AnswerLoss(MODEL)
SKILLS = Skills(LOSS, LOSS)
WITHOUT = PartLoss(MODEL, ImageSample(), image=False)


def columns(n, copies=1, tie_seed=0, **values):
    digest = np.sort(
        digests_to_array([hashlib.sha256(b"%d" % (i // copies)).digest() for i in range(n)])
    )
    return Columns(digest, seeded_ties(digest, tie_seed), np.zeros(n, np.int32), ("",), values)


@pytest.mark.parametrize(
    ("n", "copies", "rows"), [(0, 1, 0), (58, 1, 0), (60, 1, 30), (58, 2, 0), (900, 1, 50)]
)
def test_the_sample_is_of_rows_with_an_image_one_copy_of_each(n, copies, rows):
    images = np.arange(n) // copies % 2 + (copies > 1)
    given = columns(n, copies, visual={"given": images > 0})
    chosen = ImageSample(50).pool(given)["chosen"]
    assert (images[chosen] > 0).all()
    assert len(np.unique(given.digest[chosen])) == chosen.sum() == rows
    other = columns(n, copies, tie_seed=5, visual={"given": images > 0})
    assert (ImageSample(50).pool(other)["chosen"] == chosen).all()


def judged(loss, without, leaf=None):
    n = len(loss)
    leaf = np.zeros(n, int) if leaf is None else leaf
    given = columns(
        n, loss={"nll": loss}, without_image={"nll": without}, skills={"leaf": np.asarray(leaf)}
    )
    out = Judgement(LOSS, WITHOUT, SKILLS).pool(given)
    assert all(len(set(np.nan_to_num(a, nan=-1).tolist())) <= 1 for a in out.values())
    return {name: a[0] for name, a in out.items()}


@pytest.mark.parametrize(("helped", "readable"), [(0, False), (50, False), (65, True), (90, True)])
def test_readable_if_the_image_makes_most_answers_more_likely(helped, readable):
    loss = np.full(200, 1.0)
    without = np.full(200, np.nan)  # of the others nothing is known
    without[:100] = np.where(np.arange(100) < helped, 1.5, 1.0)  # equal: not more likely
    out = judged(loss, without)
    assert out["images"] == 100 and out["helped"] == pytest.approx(helped / 100)
    assert out["readable"] == readable


@pytest.mark.parametrize("wrong", [0, 30])
def test_suspected_rows_are_not_counted(wrong):
    """The image makes the other answers more likely, but none of the wrong ones."""
    rng = np.random.default_rng(0)
    suspected = np.arange(100) < wrong
    loss = np.where(suspected, 4.0, 0.5) + rng.normal(0, 0.05, 100)
    out = judged(loss, loss + np.where(suspected, -1, 1))
    assert out["images"] == 100 - wrong and out["helped"] == 1 and out["readable"]


@pytest.mark.parametrize("images", [0, 1, LEAST_IMAGES - 1])
def test_few_images_say_nothing(images):
    without = np.full(60, np.nan)
    without[:images] = 0.1
    out = judged(np.ones(60), without)
    assert out["images"] == images and out["readable"]
    assert np.isnan(out["helped"]) == (images == 0)


def test_humps_are_counted_by_rows_of_skills():
    """Two skills of 20 rows with bimodal losses, one of 40 unimodal, one of 5 that is too small."""
    two = np.tile(np.r_[np.full(15, 0.1), np.full(5, 3.0)] + np.tile([0, 0.01], 10), 2)
    one = np.linspace(0, 1, 40)
    loss = np.r_[two, one, np.ones(5)]
    leaf = np.repeat([0, 1, 2, 3], [20, 20, 40, 5])
    assert judged(loss, np.full(85, np.nan), leaf)["humped"] == pytest.approx(0.5)
    assert np.isnan(judged(np.ones(5), np.full(5, np.nan))["humped"])


@pytest.mark.parametrize("readable", [True, False])
def test_seed_models_are_asked_only_where_the_base_cannot_judge(readable):
    within = np.array([True, False, True, False])
    given = columns(4, judgement={"readable": np.full(4, readable)}, within={"chosen": within})
    judgement = Judgement(LOSS, WITHOUT, SKILLS)
    part = RowsToJudge(judgement, IfMeasured(ImageSample()))
    assert part.inputs().keys() == {"judgement", "within"}
    assert part.pool(given)["chosen"].tolist() == (within & (not readable)).tolist()
    assert RowsToJudge(judgement).pool(given)["chosen"].tolist() == [not readable] * 4
    assert RowsToJudge().pool(given)["chosen"].all() and not RowsToJudge().inputs()
    base, seed = np.arange(4.0), np.full(4, np.nan) if readable else np.arange(4.0) + 7
    seed[3] = np.nan  # has no image: it was not asked about
    given = columns(
        4,
        judgement={"readable": np.full(4, readable)},
        base={"nll": base},
        seed={"nll": seed},
        visual={"given": np.array([True, True, True, False])},
    )
    nll = TrustedLoss(judgement, LOSS, LOSS).pool(given)["nll"]
    assert nll.tolist() == [*(base if readable else seed)[:3].tolist(), 3.0]


@pytest.mark.parametrize("drawn", [0, 2])
def test_without_a_sample_no_seed_model_can_be_asked(drawn):
    rows = np.array([True, False, True, False])
    image = np.array([True, True, False, True])
    given = columns(
        4,
        sample={"chosen": np.arange(4) < drawn},
        rows={"chosen": rows},
        visual={"given": image},
    )
    expected = image & (drawn > 0)
    assert IfMeasured(ImageSample()).pool(given)["chosen"].tolist() == expected.tolist()
    part = IfMeasured(ImageSample(), ImageSample())
    assert part.pool(given)["chosen"].tolist() == (rows & expected).tolist()


class Backend:
    """The loss is the number of images."""

    def answer_loss(self, samples, pool, among_images):
        n = len(samples)
        nll = [len(s.images) for s in samples]
        values = {"nll": np.array(nll, np.float32), "tokens": np.ones(n, np.int32)}
        yield Scored(np.arange(n), values | {"greedy_match": np.ones(n, bool)}, [""] * n)


def test_a_row_of_the_sample_that_cannot_lose_its_image_does_not_fail():
    asked = (Turn("user", f"{IMAGE_PLACEHOLDER}\nWhat?"), Turn("assistant", "A dog."))
    drawn = (Turn("user", "Draw one."), Turn("assistant", IMAGE_PLACEHOLDER))
    samples = [Sample(str(i), t, ("a.png",), "", "", ()) for i, t in enumerate((asked, drawn))]
    for signal, fails in ((WITHOUT, False), (AnswerLoss(MODEL, image=False), True)):
        nll, errors = [0.0, 0.0], ["", ""]
        for piece in signal.rows(samples, None, Backend(), None):
            for i, value, error in zip(
                piece.index.tolist(), piece.values["nll"].tolist(), piece.errors, strict=True
            ):
                nll[i], errors[i] = value, error
        assert nll[0] == 0 and np.isnan(nll[1]) and errors[0] == ""
        assert bool(errors[1]) == fails
