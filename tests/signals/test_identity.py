"""The store's columns are found by fingerprints: a tidier class must keep its own, or all that was paid for is asked again.

A number that changes here makes stored columns unreachable. Where the column's meaning changed too, raise `version` and write
the new number down; else the change was not as harmless as it looked.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import is_dataclass

import pytest

import thresher.signals
from thresher.fingerprint import fingerprint
from thresher.signals.answer import Answer
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.answer_switch import AnswerSwitch
from thresher.signals.capabilities import CAPABILITIES, STYLES
from thresher.signals.choice import Choice
from thresher.signals.demonstrations import Demonstrations
from thresher.signals.gap import Gap
from thresher.signals.judge import Judge
from thresher.signals.knowledge import Knowledge
from thresher.signals.length import Length
from thresher.signals.missing_skill import MissingSkill
from thresher.signals.mistake import Mistake
from thresher.signals.one_shot import OneShot
from thresher.signals.other_answers import OtherAnswers
from thresher.signals.rationale import Rationale
from thresher.signals.row_skills import RowSkills
from thresher.signals.sampled_switch import SampledSwitch
from thresher.signals.seed_rows import SeedRows
from thresher.signals.skill_vector import SkillVector
from thresher.signals.style import Style, WrittenStyles
from thresher.signals.teacher import TeacherJudge, TeacherStyle, TeacherWrittenScore, TeacherWrittenStyles
from thresher.signals.teacher_sample import Learned, TeacherSample
from thresher.signals.written_score import WrittenScore
from thresher.signals.wrong import Wrong
from thresher.types import Field, ModelIdentity, Signal

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")
OCR = CAPABILITIES[0]
SAMPLE = TeacherSample(0.1, 0)
LOSS, RATIONALE = AnswerLoss(MODEL), Rationale(MODEL)
OTHERS = OtherAnswers(RATIONALE)
SWITCH = AnswerSwitch(MODEL, RATIONALE, OTHERS)
MISTAKE = Mistake(RATIONALE, SWITCH)
KNOWLEDGE = Knowledge(LOSS)

SIGNALS: list[Signal] = [
    Answer(MODEL),
    LOSS,
    SWITCH,
    Choice(MODEL),
    Demonstrations(KNOWLEDGE, "P", 0),
    Gap(MISTAKE, MissingSkill(MODEL, RATIONALE, MISTAKE)),
    Judge(MODEL, OCR),
    KNOWLEDGE,
    Learned(SAMPLE),
    Length(),
    MissingSkill(MODEL, RATIONALE, MISTAKE),
    MISTAKE,
    OneShot(MODEL, Demonstrations(KNOWLEDGE, "P", 0)),
    OTHERS,
    RATIONALE,
    RowSkills(MODEL),
    SampledSwitch(MODEL, RATIONALE, OTHERS, 8),
    SeedRows(0.05, 0),
    SkillVector(MODEL, MissingSkill(MODEL, RATIONALE, MISTAKE)),
    Style(MODEL, STYLES[0]),
    TeacherJudge(MODEL, OCR, sample=SAMPLE),
    SAMPLE,
    TeacherStyle(MODEL, STYLES[0], sample=SAMPLE),
    TeacherWrittenScore(MODEL, OCR, sample=SAMPLE),
    TeacherWrittenStyles(MODEL, sample=SAMPLE),
    WrittenScore(MODEL, OCR),
    WrittenStyles(MODEL),
    Wrong(RATIONALE),
]

FINGERPRINTS = {
    "Answer": "e6458062e2df909993f9257af83562a8",
    "AnswerLoss": "563826b74356bcc9d3c1b44053c2f8d7",
    "AnswerSwitch": "44618f14b88fb20e33f5c832a3176418",
    "Choice": "496bd68365b14da88dbcf96bdd2410fe",
    "Demonstrations": "067e1cb3244e1039e2a4950d00fe5564",
    "Gap": "ef6cbb54b72761ad5f42fb8185dc9ed7",
    "Judge": "19cacc57bd0d11fafa9372f6ee104380",
    "Knowledge": "1450db6c16757e94d4dfaf9bb6607564",
    "Learned": "45e40c05e33935efcc54ec3ac815d3b9",
    "Length": "718bf41645a81d6d52c25af2e970da89",
    "MissingSkill": "64538008dc6e801df75c45726114b62b",
    "Mistake": "21be5ce323287a3043818a3de7e5a8f2",
    "OneShot": "a1fc0b4a1b274f0f652bd72c2d521bd3",
    "OtherAnswers": "e629476c7d913fe6d9b3b5d0e7141f81",
    "Rationale": "13f369fc05b7b464f4eb494a29317a77",
    "RowSkills": "d08412b6cbf58289e1199878e6bc07f2",
    "SampledSwitch": "08e76ecab1a566ea45dbae1669c57b06",
    "SeedRows": "36e637e72d66d47bf24c92f1558ad514",
    "SkillVector": "0563e933ffba34331a33947d34771c73",
    "Style": "19c008150647da32771b8772d7d05d4e",
    "TeacherJudge": "67646c9e7ec46fcaaa293e697810bc42",
    "TeacherSample": "1d86bfb320a41da0e4c4f011e82db82b",
    "TeacherStyle": "7afbcdc297b308457804662763e9aaf6",
    "TeacherWrittenScore": "02c38d4c5d95457b10bb71d3acf2d2ee",
    "TeacherWrittenStyles": "45b22e413db3860d7fb1f09973cb1433",
    "WrittenScore": "b68df32d6bcadf7edb15608d65f9d992",
    "WrittenStyles": "e2e0b75abcbca78ce7118bd7f8645471",
    "Wrong": "fa2c888f9f86b1fd62147572baa925ea",
}


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda s: type(s).__name__)
def test_a_signal_keeps_its_fingerprint(signal: Signal) -> None:
    assert fingerprint(signal) == FINGERPRINTS[type(signal).__name__]


def test_every_signal_is_held_to_it() -> None:
    found = set()
    for module in pkgutil.iter_modules(thresher.signals.__path__):
        of = importlib.import_module(f"thresher.signals.{module.name}")
        for name, cls in inspect.getmembers(of, is_dataclass):
            told = getattr(cls, "fields", None)
            if cls.__module__ == of.__name__ and isinstance(told, tuple) and isinstance(told[0], Field):
                found.add(name)
    assert found == set(FINGERPRINTS) == {type(s).__name__ for s in SIGNALS}
