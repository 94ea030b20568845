"""winnow on planted columns: ten rows by hand, its settings, the guard, which signals it needs."""

from dataclasses import replace

import numpy as np
import pytest

from tests.methods.planted_columns import columns_of, digests, like_real
from thresher.engine.graph import walk
from thresher.errors import CapabilityError, ConfigError, spelled
from thresher.methods import load
from thresher.methods import winnow as module
from thresher.methods.explanation import Evidence
from thresher.methods.needs import needs, trains
from thresher.methods.winnow import Winnow
from thresher.request.spelling import as_flag
from thresher.signals.cross_fit import CrossRows
from thresher.signals.guard import GuardRows
from thresher.signals.judgement import RowsToJudge
from thresher.signals.part_loss import PartLoss
from thresher.signals.reading import needs_weights
from thresher.signals.trusted_rows import TrustedRows
from thresher.types import Columns, MethodContext, ModelIdentity, TrainedModel

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")
LOSS = [0.9, 0.1, 0.4, 0.2, 2.0, 0.5, 1.0, 9.0, 3.0, 1.0]
LEAF = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]


def columns(loss=LOSS, leaf=LEAF, **more):
    n = len(loss)
    leaf = np.array(leaf, np.int32)
    values = {
        "loss": {"nll": np.array(loss, np.float32)},
        "skills": {
            "leaf": leaf,
            "words": np.array([f"colour {k}" for k in leaf.tolist()], object),
            "parent_words": np.array(["colour"] * n, object),
        },
        **more,
    }
    ties = np.arange(n, dtype=np.uint64)
    return Columns(np.sort(digests(n)), ties, np.zeros(n, np.int32), ("a",), values)


def verdict(n, better, worse, passed):
    return {
        "rows": np.full(n, 50, np.int32),
        "better": np.full(n, better, np.int32),
        "worse": np.full(n, worse, np.int32),
        "chance": np.full(n, 0.5 if passed else 0.03),
        "passed": np.full(n, passed),
    }


def explained(selection, settings=None):
    kept = np.zeros(len(selection.reason["loss"]), bool)
    kept[selection.rows] = True
    return Winnow.explain(Evidence(selection.reason, kept, settings or {}))


def test_ten_rows_by_hand():
    """
    row   0    1    2    3    4    5  |  6    7    8    9
    skill 0    0    0    0    0    0  |  1    1    1    1     skill 1 is too small to judge
    loss  0.9  0.1  0.4  0.2  2.0  0.5|  1.0  9.0  3.0  1.0

    Skill 0: the lower half is rows 1, 3, 2; median 0.2; weight 6·√0.2 = 2.683. Skill 1: median of
    1 1 3 9 = 2; weight 4·√2 = 5.657. Of five rows 1.61 and 3.39, so 2 and 3; the seeded order is
    that of the rows: 1, 2 of the trusted rows and 6, 7, 8.
    """
    out = Winnow(trust="base", guard="off").select(columns(), 5)
    assert out.rows.tolist() == [1, 2, 6, 7, 8]
    assert out.reason["trusted"].tolist() == [
        *(False, True, True, True, False, False),
        *(True, True, True, True),
    ]
    assert out.reason["loss_rank"].tolist() == [5, 1, 3, 2, 6, 4, 1, 4, 3, 2]
    assert out.reason["skill_rows"].tolist() == [6] * 6 + [4] * 4
    assert out.reason["skill_quota"].tolist() == [2] * 6 + [3] * 4
    (note,) = map(str, out.notes)
    assert note.startswith("4 rows are in skills of fewer than 6 rows")
    why = explained(out).why
    assert why(1).kind == "random sample of trusted rows"
    assert why(1).text == (
        "skill 0 (colour 0): loss 0.10 nats per token, the lowest of 6 rows, so it is "
        "trusted; 2 of them are kept, drawn at random"
    )
    assert why(3).kind == "trusted, not drawn"
    assert why(4).kind == "not trusted"
    assert "not trusted: a high loss for its skill, perhaps wrong" in why(4).text
    assert why(6).kind == "random sample of a small skill"
    assert why(9).kind == "not drawn from a small skill"


def test_a_budget_above_the_trusted_rows_adds_the_others_with_the_lowest_loss():
    out = Winnow(trust="base", guard="off").select(columns(), 8)
    assert out.rows.tolist() == [1, 2, 3, 6, 7, 8, 9, 5]
    assert "filled with 1 untrusted row" in out.notes[-1]
    assert explained(out).why(5).kind == "not trusted, selected to fill the budget"


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"power": "0"}, [1, 2, 3, 6, 7]),  # 3 and 2, by rows alone
        ({"keep": "1"}, [0, 1, 6, 7, 8]),  # median 0.45: weights 4.02 and 5.66, 2 and 3
        ({"power": "2"}, [6, 7, 8, 9, 1]),  # skill 1 is given whole
    ],
)
def test_settings_by_hand(settings, rows):
    out = load("winnow", {"guard": "off", "trust": "base", **settings}).select(columns(), 5)
    assert sorted(out.rows.tolist()) == sorted(rows)


def test_trust_by_the_seed_models_loss_and_difficulty_by_the_own():
    """The seed models find rows 0, 4, 5 likely; the weight is the median of their own losses."""
    trust = np.array([0.1, 0.9, 0.9, 0.9, 0.2, 0.3, 1, 1, 1, 1], np.float32)
    out = Winnow(guard="off", trust="seed").select(columns(trust={"nll": trust}), 5)
    # weights 6·√0.9 = 5.69 and 4·√2 = 5.66: 2.51 and 2.49
    assert out.rows.tolist() == [0, 4, 5, 6, 7]
    assert out.reason["seed_loss"].tolist() == trust.tolist()
    assert out.reason["loss_rank"][:6].tolist() == [1, 4, 5, 6, 2, 3]
    assert "seed model's loss 0.20 nats per token, the 2nd lowest" in explained(out).why(4).text


def test_the_last_round_decides_what_is_trusted():
    """As before, but the losses are those of models that are trained on rows that round 1 trusts:
    of rows 1, 2, 3 it excludes 1 and 3."""
    last = np.array([0.1, 0.9, 0.3, 0.9, 0.9, 0.2, 1, 1, 1, 1], np.float32)
    given = columns(round2={"nll": np.array(LOSS, np.float32)}, round3={"nll": last})
    out = Winnow(trust="base", guard="off", rounds=3).select(given, 5)
    assert np.flatnonzero(out.reason["trusted"]).tolist() == [0, 2, 5, 6, 7, 8, 9]
    # the median of the trusted rows' own losses (0.9, 0.4, 0.5) is 0.5: weights 4.24 and 5.66
    assert out.rows.tolist() == [0, 2, 6, 7, 8]
    assert out.reason["round_loss"].tolist() == last.tolist() and "seed_loss" not in out.reason
    assert out.notes[0] == (
        "rounds=3: models trained on trusted rows decide in the last round which rows are trusted. "
        "Of the rows that the first round trusted, they exclude 2 rows (29%)."
    )
    why = explained(out).why(5).text
    assert "loss under the last round's models 0.20 nats per token, the 2nd lowest" in why
    one = Winnow(trust="base", guard="off").select(columns(), 5)
    assert "round_loss" not in one.reason


def test_rounds_after_seed_models():
    """Both losses are reasons; the last round's decides."""
    seeds = np.array([0.1, 0.9, 0.9, 0.9, 0.2, 0.3, 1, 1, 1, 1], np.float32)
    given = columns(trust={"nll": seeds}, round2={"nll": np.array(LOSS, np.float32)})
    out = Winnow(trust="seed", guard="off", rounds=2).select(given, 5)
    assert np.flatnonzero(out.reason["trusted"][:6]).tolist() == [1, 2, 3]
    assert out.reason["seed_loss"].tolist() == seeds.tolist()
    assert "they exclude 3 rows (43%)" in str(out.notes[0])
    assert "last round's models 0.10 nats" in explained(out).why(1).text


def judgement(n, images=500, helped=0.6, humped=0.7, readable=True):
    return {
        "images": np.full(n, images, np.int32),
        "helped": np.full(n, helped, np.float32),
        "humped": np.full(n, humped, np.float32),
        "readable": np.full(n, readable),
    }


def test_trust_is_chosen_by_what_was_measured(monkeypatch):
    monkeypatch.setattr(module, "is_usable", lambda extra: True)
    other = np.array([0.1, 0.9, 0.9, 0.9, 0.2, 0.3, 1, 1, 1, 1], np.float32)
    base = Winnow(guard="off").select(columns(trust={"nll": LOSS}, judgement=judgement(10)), 5)
    assert base.rows.tolist() == [1, 2, 6, 7, 8] and "seed_loss" not in base.reason
    assert str(base.notes[0]).startswith(
        "trust=auto: the visual input makes the given answer more likely in 60% of 500 rows "
        "without a suspicious loss (at least 65% are needed), and losses are bimodal in skills "
        "with 70% of the rows; the model's own loss"
    )
    unread = judgement(10, helped=0.37, readable=False)
    seed = Winnow(guard="off").select(columns(trust={"nll": other}, judgement=unread), 5)
    explicit = Winnow(guard="off", trust="seed").select(columns(trust={"nll": other}), 5)
    assert seed.rows.tolist() == explicit.rows.tolist() == [0, 4, 5, 6, 7]
    assert seed.reason.keys() == explicit.reason.keys()
    assert "more likely in only 37% of 500 rows without a suspicious loss (at" in str(seed.notes[0])
    assert "Therefore two models" in str(seed.notes[0])


def test_random_rows_are_selected_if_nothing_can_be_trained(monkeypatch):
    monkeypatch.setattr(module, "is_usable", lambda extra: False)
    unread = judgement(10, helped=0.37, readable=False)
    out = Winnow().select(columns(judgement=unread), 5)
    assert out.rows.tolist() == [0, 1, 2, 3, 4] and "seed_loss" not in out.reason
    (note,) = map(str, out.notes)
    assert note.startswith("Random rows are selected") and "only 37% of 500 rows" in note
    assert "random sample" in explained(out).lead and explained(out).why(0).kind == "random sample"
    off = Winnow(guard="off").select(columns(judgement=unread), 5)
    assert off.rows.tolist() == [1, 2, 6, 7, 8] and "guard_passed" not in off.reason
    text = off.notes[0].spelled(as_flag)
    assert "training is not installed" in text and "--method random is safer" in text


def test_a_readable_pool_is_selected_from_without_training(monkeypatch):
    monkeypatch.setattr(module, "is_usable", lambda extra: False)
    out = Winnow().select(columns(judgement=judgement(10)), 5)
    assert out.rows.tolist() == [1, 2, 6, 7, 8]
    assert sum("There is no guard" in note for note in map(str, out.notes)) == 1
    assert "guard_passed" not in out.reason


@pytest.mark.parametrize("images", [0, 1, 29])
def test_too_few_images_give_a_note(images):
    out = Winnow(guard="off").select(
        columns(judgement=judgement(10, images=images, helped=np.nan)), 5
    )
    assert "fewer than 30 rows have an image or video and no" in str(out.notes[0])
    assert "the model's own loss decides" in str(out.notes[0])


def test_a_fallback_to_random_rows_is_explained_in_one_note(monkeypatch):
    monkeypatch.setattr(module, "is_usable", lambda extra: True)
    given = columns(
        guard=verdict(10, 1, 9, False),
        trust={"nll": LOSS},
        judgement=judgement(10, helped=0.37, readable=False),
    )
    note = spelled(str(*Winnow().select(given, 5).notes), as_flag)
    assert "The guard selects random rows instead" in note and "only 37% of 500 rows" in note
    assert "--set trust=seed" not in note and "--set guard=off selects without" in note


def test_image_gain_is_a_further_condition():
    gain = np.array([1, -1, 0, 1, 1, 1, np.nan, -1, 1, 1], np.float32)
    out = Winnow(trust="base", guard="off", image_gain=True).select(columns(gain={"gain": gain}), 4)
    assert np.flatnonzero(out.reason["trusted"]).tolist() == [3, 6, 8, 9]
    assert sorted(out.rows.tolist()) == [3, 6, 8, 9]
    assert any(
        "more likely in 67% of the rows with an image or video" in note
        for note in map(str, out.notes)
    )
    assert "the visual input does not make the answer more likely" in explained(out).why(1).text
    unread = Winnow(trust="base", guard="off", image_gain=True).select(
        columns(gain={"gain": -gain}), 4
    )
    assert any("unable to read it" in note for note in map(str, unread.notes))


def test_the_guard_lets_a_selection_pass():
    given = columns(guard=verdict(10, 9, 8, True))
    out = Winnow(trust="base", guard="on").select(given, 5)
    assert out.rows.tolist() == [1, 2, 6, 7, 8] and out.reason["guard_passed"].all()
    assert "of 50 held-out rows, only the former answers 9 as given, and only the latter 8" in str(
        out.notes[0]
    )
    assert explained(out).why(4).kind == "not trusted"


def test_the_guard_selects_random_rows_with_a_note():
    given = columns(guard=verdict(10, 1, 9, False))
    out = Winnow(trust="base", guard="on").select(given, 5)
    assert out.rows.tolist() == [0, 1, 2, 3, 4]  # the seeded order
    assert out.reason["skill_quota"].tolist() == [5] * 6 + [0] * 4
    assert len(out.notes) == 1 and "The guard selects random rows instead" in str(out.notes[0])
    found = explained(out)
    assert {found.why(i).kind for i in range(10)} == {"random sample", "not drawn"}
    assert "random sample" in found.lead


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (4, 0), (1, 3)])
def test_too_few_differing_answers_are_no_verdict(better, worse):
    out = Winnow(trust="base", guard="on").select(
        columns(guard=verdict(10, better, worse, True)), 5
    )
    assert out.rows.tolist() == [1, 2, 6, 7, 8]
    assert f"only the latter {worse}. Too few answers differ" in str(out.notes[0])


def test_a_skipped_guard_is_said():
    skipped = verdict(10, 0, 0, True) | {"rows": np.zeros(10, np.int32)}
    out = Winnow(trust="base", guard="on").select(columns(guard=skipped), 5)
    assert out.rows.tolist() == [1, 2, 6, 7, 8]
    assert out.notes[0].startswith("The guard is skipped") and "25 distinct rows" in str(
        out.notes[0]
    )


@pytest.mark.parametrize(
    "given",
    [
        {"keep": "0"},
        {"keep": "1.1"},
        {"leaves": "0"},
        {"power": "-1"},
        {"power": "1000000"},
        {"layer": "2"},
        {"trust": "own"},
        {"guard": "maybe"},
        {"rounds": "0"},
        {"rounds": "6"},
        {"rounds": "1.5"},
        {"names": ""},
    ],
)
def test_impossible_settings_are_refused(given):
    with pytest.raises(ConfigError, match=next(iter(given))):
        load("winnow", given)


def test_what_it_asks(monkeypatch):
    monkeypatch.setattr(module, "is_usable", lambda extra: False)
    context = MethodContext(MODEL, seed=3, budget=60)
    plain = Winnow()
    assert not trains(plain) and not trains(Winnow(guard="off"))
    assert trains(Winnow(trust="base", guard="on"))
    cheap = Winnow(trust="base", guard="off")
    assert list(cheap.signals(context)) == ["loss", "skills"]
    one_pass = {"answer_loss", "embedding", "skills", "visual_input"}
    assert {s.kind for s in walk(cheap.signals(context))} == one_pass
    assert list(plain.signals(context)) == ["loss", "skills", "judgement"]
    assert {s.kind for s in walk(plain.signals(context))} - one_pass == {
        "judgement",
        "part_loss",
        "image_sample",
    }
    assert len(needs(plain)) == 2
    monkeypatch.setattr(module, "is_usable", lambda extra: True)
    assert trains(plain) and {"trust", "guard"} < plain.signals(context).keys()
    assert list(cheap.signals(context)) == ["loss", "skills"]
    whole = Winnow(image_gain=True, guard="off").signals(context)  # no row is asked twice
    assert whole["judgement"].without_image == whole["gain"].inputs()["without_image"]


@pytest.mark.parametrize(("budget", "rows"), [(60, 60), (5000, 1000), (None, 1000)])
def test_the_guard_trains_small_on_both(budget, rows):
    signals = Winnow(trust="base", guard="on").signals(MethodContext(MODEL, seed=3, budget=budget))
    drawn = [s for s in walk(signals) if isinstance(s, GuardRows)]
    assert {(s.rows, s.trust is None) for s in drawn} == {(rows, True), (rows, False)}
    asked = [s for s in walk(signals) if isinstance(s, PartLoss)]
    assert len({s.model for s in asked}) == 2
    assert all(isinstance(s.model, TrainedModel) and s.model.base == MODEL for s in asked)


SERVED = ModelIdentity("api:m", "openai", "server", "1024")


def test_a_served_model_decides_what_is_trusted_with_the_skills_of_another(monkeypatch):
    monkeypatch.setattr(module, "is_usable", lambda extra: True)
    method = Winnow(names="model")
    signals = method.signals(MethodContext(SERVED, roles={"embedder": MODEL}))
    assert signals["loss"].model == SERVED and signals["skills"].question.model == MODEL
    assert signals["names"].model == SERVED
    assert "judgement" in signals and not {"trust", "guard"} & signals.keys()
    asked = [s for s in walk(signals) if getattr(s, "model", None) == SERVED]
    assert not any(map(needs_weights, asked))
    chosen = Winnow().select(columns(judgement=judgement(10)), 4)
    assert any("behind a server or an adapter" in str(note) for note in chosen.notes)


@pytest.mark.parametrize(
    "given", [{"trust": "seed"}, {"trust": "base", "rounds": 2}, {"guard": "on"}]
)
def test_nothing_is_trained_from_a_served_model(given):
    method = Winnow(**given)
    with pytest.raises(CapabilityError, match=r"trains models from the run's own.*behind a server"):
        method.signals(MethodContext(SERVED, roles={"embedder": MODEL}))


def test_each_round_trains_on_rows_that_the_round_before_trusts():
    method = Winnow(guard="on", trust="base", rounds=3, keep=0.4, power=1.0)
    signals = method.signals(MethodContext(MODEL, seed=3, budget=60))
    assert list(signals) == ["loss", "skills", "round2", "round3", "guard"]
    second, third = signals["round2"], signals["round3"]
    loss, skills = signals["loss"], signals["skills"]
    assert second.rows == TrustedRows(loss, loss, skills, 0.05, 3, 0, 500, 0.4, 1.0)
    assert third.rows == TrustedRows(second, loss, skills, 0.05, 3, 0, 500, 0.4, 1.0)
    for fitted in (second, third):
        assert fitted.first.model.rows == fitted.rows
        assert fitted.second.model.rows == replace(fitted.rows, part=1)
        assert fitted.first.among == RowsToJudge()
        assert fitted.second.among == RowsToJudge(None, fitted.rows)
    ours = {s.trust for s in walk(signals) if isinstance(s, GuardRows)}
    assert ours == {None, third}
    again = method.signals(MethodContext(MODEL, seed=3, budget=90))
    assert again["round3"] == third  # another budget trains nothing


def test_seed_models_are_cross_fitted():
    signals = Winnow(guard="off", trust="seed").signals(MethodContext(MODEL, seed=3))
    fitted = signals["trust"]
    assert isinstance(fitted.first, PartLoss) and isinstance(fitted.second, PartLoss)
    assert fitted.first.model.rows == fitted.rows == CrossRows(0.05, 3, 0, 500)
    assert fitted.first.among == RowsToJudge() and fitted.second.among == RowsToJudge(
        None, fitted.rows
    )
    assert fitted.second.model.rows == CrossRows(0.05, 3, 1, 500)


@pytest.mark.parametrize(("text", "value"), [("false", "off"), ("true", "on"), ("off", "off")])
def test_on_and_off_as_yaml_reads_them(text, value):
    assert load("winnow", {"guard": text}) == Winnow(guard=value)


def test_notes_give_no_useless_advice():
    few = Winnow(trust="base", guard="off").select(columns([1.0, 2.0, 3.0], [0, 0, 0]), 1).notes
    assert any("drawn at random." in note for note in few)
    assert not any("Fewer leaves" in note for note in few)
    no_images = {"gain": np.full(30, np.nan)}
    given = columns(np.arange(30.0), np.zeros(30, int), gain=no_images)
    notes = Winnow(trust="base", guard="off", image_gain=True, keep=1.0).select(given, 5).notes
    text = spelled(str(*notes), as_flag)
    assert text == "--set image_gain=true has no effect: no row has an image or a scored video."


@pytest.mark.parametrize(("apart", "text"), [(0.0, True), (4.0, False)])
def test_unimodal_losses_give_a_note(apart, text):
    rng = np.random.default_rng(0)
    leaf = np.repeat(np.arange(20), 30)
    loss = rng.normal(2, 0.3, 600) + apart * (rng.random(600) < 0.3)
    notes = Winnow(trust="base", guard="off").select(columns(np.abs(loss), leaf), 60).notes
    assert any("The losses are bimodal" in note for note in notes) == text


def test_no_rows():
    out = Winnow(trust="base", guard="on").select(columns([], [], guard=verdict(0, 0, 0, True)), 5)
    assert out.rows.tolist() == [] and out.notes == ()


@pytest.mark.parametrize(
    ("name", "settings"), [("clipper", {"mirror": "one_shot"}), ("mllm_selector", {})]
)
def test_balance_by_skill_gives_skills_equal_parts(name, settings):
    """A skill with one row in twenty gets far more than its share, as a source would."""
    n = 2000
    nll, one, known = like_real(n, 4)
    rare = (np.arange(n) % 20 == 0).astype(int)
    given = columns_of(nll, one, known, length=rare)
    taken = {
        balance: given["skills"]["leaf"][
            load(name, settings | {"balance": balance}).select(given, 300).rows
        ].mean()
        for balance in ("none", "skill")
    }
    assert taken["none"] < 0.1 and taken["skill"] > 2 * taken["none"]
    signals = load(name, {"balance": "skill"}).signals(MethodContext(MODEL))
    of_winnow = Winnow(trust="base", guard="off").signals(MethodContext(MODEL))
    assert signals["skills"] == of_winnow["skills"]  # one column for all
    assert "skills" not in load(name, {"balance": "none"}).signals(MethodContext(MODEL))
