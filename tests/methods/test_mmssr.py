"""mmSSR: signals of its three modes, invalid settings, reasons and notes."""

import numpy as np
import pytest

from tests.methods.planted_columns import digests, sample_columns
from thresher.errors import ConfigError
from thresher.methods import load
from thresher.methods.mmssr import NO_STYLE, Mmssr
from thresher.methods.mmssr_notes import taken_notes
from thresher.methods.needs import models_of, needs, uses_main_model
from thresher.samplers import round_robin
from thresher.signals.capabilities import CAPABILITIES, STYLES
from thresher.signals.distillation import ScoreExamples, StyleExamples
from thresher.signals.judge import Judge
from thresher.signals.style import Style, WrittenStyles
from thresher.signals.teacher import (
    TeacherJudge,
    TeacherStyle,
    TeacherWrittenScore,
    TeacherWrittenStyles,
)
from thresher.signals.teacher_sample import Learned, TeacherSample
from thresher.signals.written_score import WrittenScore
from thresher.stats.correlation import f1, spearman
from thresher.types import (
    Capability,
    Columns,
    MethodContext,
    ModelIdentity,
    TrainedModel,
    seeded_ties,
)

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")
OTHER = ModelIdentity("sha256:1", "llava", "float32", "pil")
THIRD = ModelIdentity("sha256:2", "llava", "float32", "pil")
NAMES = [c.name for c in CAPABILITIES]
OCR = "optical_character_recognition"


def columns_of(scores, bits, source=None, *, seed=0, **more):
    """`scores`: capability -> [n]; `bits`: styles of each row."""
    n = len(bits)
    values = {
        f"score_{name}": {
            "score": np.asarray(s, np.float32),
            "best": np.round(s).astype(np.int32),
            "mass": np.ones(n),
        }
        for name, s in scores.items()
    }
    bits = np.asarray(bits, np.int32)
    for k in range(len(STYLES)):
        values[f"style_{k}"] = {
            "chosen": (bits >> k & 1).astype(bool),
            "logprob": np.full(n, np.log(0.1), np.float32),
        }
    values["order"] = {"row": np.arange(n)}  # of compat=official
    values.update(more)
    digest = np.sort(digests(n))
    source = np.zeros(n, np.int32) if source is None else np.asarray(source, np.int32)
    return Columns(digest, seeded_ties(digest, seed), source, ("b", "a"), values)


def select(method, columns, k):
    return method.select(columns, k)


# --------------------------------------------------------------------------- which signals it needs


def test_main_model_is_the_default_judge():
    signals = load("mmssr").signals(MethodContext(MODEL, seed=3))
    assert list(signals) == [f"score_{name}" for name in NAMES] + [f"style_{k}" for k in range(9)]
    assert signals[f"score_{OCR}"] == Judge(MODEL, CAPABILITIES[13]) and signals[
        "style_2"
    ] == Style(MODEL, "yes/no")
    assert len({s.batch_key() for s in signals.values()}) == 1  # one pass a row
    assert models_of(load("mmssr")) == {} and needs(load("mmssr")) == (Capability.LOGPROBS,)


def test_fewer_capabilities_are_columns_of_the_same_names():
    """So that two capabilities after all of them cost nothing."""
    every = load("mmssr").signals(MethodContext(MODEL))
    two = load("mmssr", {"capabilities": "comparative_analysis, ocr"}).signals(MethodContext(MODEL))
    assert list(two)[:2] == ["score_comparative_analysis", f"score_{OCR}"]
    assert all(every[name] == signal for name, signal in two.items())


def test_separate_judge_needs_no_main_model():
    method = load(
        "mmssr", {"judge": "http://127.0.0.1:1/v1#x", "score": "generate", "style": "generate"}
    )
    assert models_of(method) == {"judge": "http://127.0.0.1:1/v1#x"} and not uses_main_model(method)
    signals = method.signals(MethodContext(roles={"judge": OTHER}, budget=5))
    assert signals["score_humanities"] == WrittenScore(OTHER, CAPABILITIES[10])
    assert signals["styles"] == WrittenStyles(OTHER) and len(signals) == 15
    assert needs(method) == (Capability.GENERATE,)


def test_scorer_and_styler():
    method = load("mmssr", {"scorer": "a", "styler": "b"})
    assert models_of(method) == {"scorer": "a", "styler": "b"} and not uses_main_model(method)
    signals = method.signals(MethodContext(roles={"scorer": OTHER, "styler": THIRD}, budget=5))
    assert signals["score_humanities"].model == OTHER
    assert signals["styles"] == WrittenStyles(THIRD)  # a styler writes lists
    read = load("mmssr", {"scorer": "a", "styler": "b", "style": "likelihood"})
    assert read.signals(MethodContext(roles={"scorer": OTHER, "styler": THIRD}, budget=5))[
        "style_0"
    ] == Style(THIRD, STYLES[0])


def test_scorer_and_styler_are_distilled_from_a_teacher():
    method = load(
        "mmssr",
        {
            "teacher": "t",
            "teacher_fraction": "0.1",
            "capabilities": "ocr,humanities",
            "epochs": "2",
        },
    )
    assert models_of(method) == {"teacher": "t"} and uses_main_model(method)
    signals = method.signals(MethodContext(MODEL, roles={"teacher": OTHER}, seed=7, budget=50))
    sample = TeacherSample(0.1, 7)
    assert signals["sample"] == sample
    asked = signals[f"teacher_score_{OCR}"]
    assert asked == TeacherJudge(OTHER, CAPABILITIES[13], sample=sample) and asked.among == sample
    assert signals["teacher_style_1"] == TeacherStyle(OTHER, STYLES[1], sample=sample)
    scorer, styler = signals[f"score_{OCR}"].model, signals["style_0"].model
    assert (
        isinstance(scorer, TrainedModel) and scorer.base == MODEL and scorer.rows == Learned(sample)
    )
    assert (scorer.recipe.epochs, scorer.recipe.seed, scorer.recipe.lora) == (2.0, 7, True)
    assert scorer.recipe == styler.recipe
    whole = load("mmssr", {"teacher": "t", "train": "full", "steps": "300"}).signals(
        MethodContext(MODEL, roles={"teacher": OTHER}, seed=7, budget=50)
    )
    assert not whole["style_0"].model.recipe.lora and whole["style_0"].model.recipe.steps == 300
    assert scorer.examples == ScoreExamples(
        tuple(signals[f"teacher_score_{n}"] for n in ("humanities", OCR))
    )
    assert isinstance(styler.examples, StyleExamples) and styler.examples.one_by_one
    assert signals["score_humanities"].model == scorer
    assert set(signals["score_humanities"].inputs()) == {
        "trained_on",
        "taught_score_0",
        "taught_score_1",
    }
    with pytest.raises(ConfigError, match="`model`"):
        method.signals(MethodContext(roles={"teacher": OTHER}, seed=7, budget=50))


def test_teacher_without_log_probabilities():
    method = load(
        "mmssr",
        {"teacher": "t", "teacher_answers": "generate", "style": "generate", "capabilities": "ocr"},
    )
    signals = method.signals(MethodContext(MODEL, roles={"teacher": OTHER}, budget=50))
    sample = TeacherSample(0.02, 0)
    assert signals[f"teacher_score_{OCR}"] == TeacherWrittenScore(
        OTHER, CAPABILITIES[13], sample=sample
    )
    assert signals["teacher_styles"] == TeacherWrittenStyles(OTHER, sample=sample)
    assert not signals["styles"].model.examples.one_by_one  # lists, since lists are to be written


def test_user_defined_capabilities(tmp_path):
    (tmp_path / "own.yaml").write_text("gauge_reading: reading a value off a dial\n")
    file = str(tmp_path / "own.yaml")
    signals = load("mmssr", {"capability_file": file}).signals(MethodContext(MODEL))
    assert len(signals) == 15 + 9 and list(signals)[14] == "score_gauge_reading"
    assert (
        "gauge reading (reading a value off a dial)" in signals["score_gauge_reading"].query().text
    )
    one = load(
        "mmssr",
        {"capability_file": file, "capabilities": "gauge_reading", "weights": "gauge_reading:3"},
    )
    assert next(iter(one.signals(MethodContext(MODEL)))) == "score_gauge_reading"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"judge": "a", "teacher": "b"}, "was given judge and teacher. Give one"),
        ({"judge": "a", "scorer": "b", "styler": "c"}, "was given judge and scorer and styler"),
        ({"scorer": "b", "styler": "c", "teacher": "d"}, "was given scorer and styler and teacher"),
        ({"scorer": "b"}, "a styler is needed as well. Add settings=.*styler"),
        ({"styler": "b"}, "a scorer is needed as well"),
        ({"teacher": ""}, "a folder, a hub id or a server's URL"),
        ({"teacher": "a", "teacher_fraction": "0.2"}, "at most 0.15"),
        ({"teacher_fraction": "0"}, "above 0 and at most 0.15"),
        ({"threshold": "5"}, "from 0 to below 5"),
        ({"capabilities": "optical_character_recogniton"}, ("Did you mean "
                                                           "'optical_character_recognition'")),
        ({"capabilities": "ocr,ocr"}, "named twice"),
        ({"capabilities": ""}, "there is no capability ''"),
        ({"weights": "humanites:2"}, "Did you mean 'humanities'"),
        ({"weights": "humanities:2", "capabilities": "ocr"}, "there is no capability 'humanities'"),
        ({"weights": "ocr"}, "should be name:number"),
        ({"weights": "ocr:-1"}, "should be name:number"),
        ({"weights": "ocr:1,optical_character_recognition:2"}, ("optical_character_recognition is "
                                                               "named twice")),
        ({"capability_file": "/nowhere.yaml"}, "cannot be read"),
        ({"balance": "skill", "group_by": "style"}, "group_by=style has none"),
        ({"balance": "source"}, "balance of mmssr must be none | skill"),
        ({"epochs": "0"}, '"epochs": 0'),
        ({"steps": "0"}, '"steps": 0'),
        ({"learning_rate": "0"}, '"learning_rate": 0'),
    ],
)  # fmt: skip
def test_impossible_settings(settings, says):
    with pytest.raises(ConfigError, match=says.replace("(", r"\(").replace("?", r"\?")):
        load("mmssr", settings)


# ------------------------------------------------------------------------------------ what it takes


def test_selection_equals_round_robin_of_its_columns():
    columns = sample_columns(300)
    scores = [columns[f"score_{name}"]["score"] for name in NAMES]
    styles = np.stack([columns[f"style_{k}"]["chosen"] for k in range(9)], axis=1)
    names = (STYLES, columns.source_names)
    for settings, more in (
        ({}, {"threshold": 0.5}),
        ({"threshold": "0"}, {}),
        ({"threshold": "2"}, {"threshold": 2.0}),
        ({"compat": "official"}, {"official": True}),
        ({"weights": "ocr:3,humanities:0.5"}, {"weights": [1.0] * 10 + [0.5, 1.0, 1.0, 3.0]}),
    ):
        out = select(load("mmssr", settings), columns, 90)
        expected = round_robin(
            scores, styles, 90, columns.ties, source=columns.source, names=names, **more
        )
        assert out.rows.tolist() == expected.rows.tolist(), settings
    plain = round_robin(scores, styles, 90, columns.ties, names=(STYLES, ("",)), threshold=0.5)
    assert select(Mmssr(group_by="style"), columns, 90).rows.tolist() == plain.rows.tolist()
    of_skill = round_robin(
        scores,
        styles,
        90,
        columns.ties,
        source=columns["skills"]["leaf"],
        names=(STYLES, [f"word{k}" for k in range(columns["skills"]["leaf"].max() + 1)]),
        threshold=0.5,
    )
    by_skill = select(Mmssr(balance="skill"), columns, 90)
    assert by_skill.rows.tolist() == of_skill.rows.tolist() != plain.rows.tolist()
    assert by_skill.reason["skill"].tolist() == columns["skill"]["label"].tolist()
    whole = round_robin(
        [np.round(s) for s in scores], styles, 90, columns.ties, source=columns.source, names=names
    )
    assert select(Mmssr(score="argmax"), columns, 90).rows.tolist() == whole.rows.tolist()


def test_reasons_by_hand():
    """Four rows, two capabilities; `humanities` comes before OCR. Budget 2: each takes its best
    row."""
    columns = columns_of({"humanities": [4, 1, 0, 3], OCR: [5, 2, 4, 0]}, [0b100, 0b100, 0b1, 0])
    out = select(Mmssr(capabilities="ocr,humanities", group_by="style"), columns, 2)
    # humanities: "yes/no" has rows 0 and 1, "no known style" row 3: the smaller first, 3; OCR:
    # "multi-choice" has row 2
    assert out.rows.tolist() == [3, 2]
    assert out.reason["capability"].tolist() == ["", "", OCR, "humanities"]
    assert out.reason["score"].tolist() == [5, 2, 4, 3]
    assert out.reason["style"].tolist() == ["yes/no", "yes/no", "multi-choice", NO_STYLE]
    assert out.reason["round"].tolist() == [-1, -1, 0, 0]
    assert out.reason["score_humanities"].tolist() == [4, 1, 0, 3]
    assert (
        "Rows by the capability that took them: humanities 1, optical_character_recognition 1."
        in out.notes
    )


def test_exhausted_capability_gives_a_note():
    columns = columns_of({"humanities": [4, 0, 0, 0], OCR: [5, 2, 4, 0]}, [1, 1, 1, 1])
    out = select(Mmssr(capabilities="ocr,humanities"), columns, 3)
    assert sorted(out.rows.tolist()) == [0, 1, 2]
    assert any(
        note.startswith("humanities ran out after 1 row: no remaining row scores above 0.")
        for note in out.notes
    )
    assert not any(note.startswith("No row") for note in out.notes)
    empty = columns_of({"humanities": [0, 0, 0, 0], OCR: [5, 2, 4, 0]}, [1, 1, 1, 1])
    notes = select(Mmssr(capabilities="ocr,humanities"), empty, 2).notes
    assert any(
        note.startswith("No row scores above 0.5 in humanities; the other") for note in notes
    )
    assert not any("ran out" in note for note in notes)
    every = select(Mmssr(capabilities="ocr,humanities"), columns, 4)
    assert sorted(every.rows.tolist()) == [0, 1, 2]
    assert any("All 3 rows that score above 0" in n and "the budget is 4" in n for n in every.notes)
    assert not any("ran out" in note for note in every.notes)


def test_row_with_expected_score_rounding_to_zero_is_not_taken():
    """What a score above 0 is for whole numbers: else capabilities that nothing trains fill up with
    rows at random."""
    columns = columns_of({"humanities": [0.1, 0.2, 0.3, 0.5], OCR: [4, 0.1, 3, 0.2]}, [1, 1, 1, 1])
    two = {"capabilities": "ocr,humanities"}
    assert sorted(select(load("mmssr", two), columns, 4).rows.tolist()) == [0, 2]
    assert len(select(load("mmssr", two | {"threshold": "0"}), columns, 4).rows) == 4
    assert len(select(load("mmssr", two | {"compat": "official"}), columns, 4).rows) == 4


def test_no_row_above_the_threshold_gives_a_note():
    assert taken_notes(
        round_robin([np.zeros(3)], np.ones((3, 1), bool), 2, np.arange(3, dtype=np.uint64)),
        ("a",),
        2,
        0.0,
    ) == ["No row scores above 0 in one of the capabilities. A lower threshold would find some."]


def test_useless_judge_gives_a_warning():
    columns = columns_of({"humanities": np.full(40, 2.0), OCR: np.arange(40) / 10}, [1] * 40)
    columns.values[f"score_{OCR}"]["mass"][:] = 0.01
    notes = " ".join(select(Mmssr(capabilities="ocr,humanities"), columns, 4).notes)
    assert (
        "The score is the same in all 40 rows" in notes
        and ("for 1 of 2 capabilities: humanities (2.000)") in notes
    )
    assert "under 50% in 40 of 80 answers" not in notes and "under 50% in 40 of 40 answers" in notes
    assert "for 1 of 2 capabilities: optical_character_recognition 1.0%" in notes
    assert "styles: all 40 rows have the same ones" in notes and "nine names" not in notes
    for k in range(9):
        columns.values[f"style_{k}"]["logprob"][:] = -9
    notes = " ".join(select(Mmssr(capabilities="ocr,humanities"), columns, 4).notes)
    assert "styles: the styler puts only 0.1% of its probability on the nine names" in notes
    written = {
        "score_humanities": {
            "text": np.array(["3", "On a scale of 0 to 5, I", "2"], object),
            "score": np.array([3, np.nan, 2], np.float32),
            "parsed": np.array([True, False, True]),
        },
        "styles": {"styles": np.array([1, 2, 0], np.int32)},
    }
    method = Mmssr(capabilities="humanities", score="generate", style="generate")
    out = select(method, columns_of({}, [0] * 3, **written), 3)
    assert sorted(out.rows.tolist()) == [0, 2] and any(
        "1 of 3 answers give no clear number" in n for n in out.notes
    )
    assert any("1 of 3 generations" in n for n in out.notes)
    none = {
        "text": np.array(["?"] * 3, object),
        "score": np.full(3, np.nan, np.float32),
        "parsed": np.zeros(3, bool),
    }
    out = select(method, columns_of({}, [0] * 3, **{**written, "score_humanities": none}), 3)
    assert not len(out.rows) and "3 of 3 answers give no clear number" in " ".join(out.notes)
    assert not any("threshold" in n or "No row has a score" in n for n in out.notes)


def test_agreement_uses_held_out_rows_only():
    n = 40
    rng = np.random.default_rng(0)
    right = rng.integers(0, 6, n).astype(np.float32)
    held = np.arange(n) % 2 == 0
    chosen = np.arange(n) < 30
    # agrees on the held-out rows alone
    ours = np.where(held, right / 2, rng.random(n)).astype(np.float32)
    taught = {
        "score": np.where(chosen, right, np.nan),
        "best": np.where(chosen, right, 0).astype(np.int32),
    }
    columns = columns_of(
        {"humanities": ours, OCR: np.ones(n)}, [0b10] * n,
        sample={"chosen": chosen, "held_out": held & chosen},
        teacher_score_humanities=taught, **{f"teacher_score_{OCR}": taught},
        **{f"teacher_style_{k}": {"chosen": chosen & (k < 2)} for k in range(9)},
    )  # fmt: skip
    out = select(Mmssr(capabilities="ocr,humanities", teacher="t"), columns, 5)
    notes = " ".join(out.notes)
    assert (
        "on 15 rows held out from training: Spearman correlation 1.00 on average (humanities 1.00)"
    ) in notes
    assert f"gives all held-out rows the same score: {OCR}." in notes
    assert "F1 0.50 on average (multi-choice 0.00, coordinate 1.00)" in notes
    assert out.reason["teacher_sample"][[0, 1, 35]].tolist() == ["held out", "learned", ""]
    assert out.reason["teacher_humanities"][1] == right[1] and np.isnan(
        out.reason["teacher_humanities"][35]
    )


def test_rank_correlation_and_f1_by_hand():
    a, b = np.array([1.0, 2, 2, 4, np.nan]), np.array([10.0, 10, 30, 40, 0])
    ranks_a, ranks_b = [1, 2.5, 2.5, 4], [1.5, 1.5, 3, 4]
    assert spearman(a, b) == pytest.approx(np.corrcoef(ranks_a, ranks_b)[0, 1])
    assert np.isnan(spearman(a, np.ones(5))) and np.isnan(spearman(a[:1], b[:1]))
    assert f1(np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 1], bool)) == pytest.approx(
        2 * (1 / 2 * 1 / 3) / (5 / 6)
    )
    assert np.isnan(f1(np.zeros(3, bool), np.zeros(3, bool)))


def test_served_judge_and_teacher_generate_styles():
    server = ModelIdentity("api:x", "openai", "server", "as they are")
    local = ModelIdentity("sha256:1", "llava", "float32", "pil")
    by_judge = Mmssr(judge="http://host/v1#x").signals(
        MethodContext(roles={"judge": server}, budget=10)
    )
    assert "styles" in by_judge and not any(name.startswith("style_") for name in by_judge)
    taught = Mmssr(teacher="http://host/v1#x").signals(
        MethodContext(local, roles={"teacher": server}, budget=10)
    )
    assert "teacher_styles" in taught and "style_0" in taught


def test_unsupported_server_use_is_refused_before_any_request():
    server = ModelIdentity("api:x", "openai", "server", "as they are")
    local = ModelIdentity("sha256:1", "llava", "float32", "pil")
    with pytest.raises(ConfigError, match="probability of a whole style"):
        Mmssr(scorer="a", styler="b", style="likelihood").signals(
            MethodContext(roles={"scorer": local, "styler": server}, budget=10)
        )


def test_user_capability_takes_precedence_over_an_alias(tmp_path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("ocr: reading a page of my own archive\n")
    method = Mmssr(capability_file=str(file), capabilities="ocr,stem")
    assert [c.name for c in method._capabilities()] == ["stem_knowledge", "ocr"]
