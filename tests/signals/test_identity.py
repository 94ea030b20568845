"""Pinned fingerprints of signals: refactoring a class must not change them, or all stored columns
are recomputed.

If the meaning of a column changed, raise its `version` and update the fingerprint here; otherwise
the change breaks stored columns and must be fixed.
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
from thresher.signals.cross_fit import CrossFittedLoss, CrossRows
from thresher.signals.demonstrations import Demonstrations
from thresher.signals.embedding import Embedding
from thresher.signals.entropy import Entropy
from thresher.signals.file_order import FileOrder
from thresher.signals.gap import Gap
from thresher.signals.guard import GuardRows, GuardVerdict, HeldOut
from thresher.signals.judge import Judge
from thresher.signals.judgement import IfMeasured, ImageSample, Judgement, RowsToJudge, TrustedLoss
from thresher.signals.knowledge import Knowledge
from thresher.signals.length import Length
from thresher.signals.missing_skill import MissingSkill
from thresher.signals.mistake import Mistake
from thresher.signals.official_results import OfficialScore, OfficialStyles, ResultFile
from thresher.signals.one_shot import OneShot
from thresher.signals.other_answers import OtherAnswers
from thresher.signals.own_answer_gap import OwnAnswerGap
from thresher.signals.part_loss import PartLoss
from thresher.signals.pooled_embedding import PooledEmbedding
from thresher.signals.question_loss import QuestionLoss
from thresher.signals.rationale import Rationale
from thresher.signals.row_skills import RowSkills
from thresher.signals.sampled_switch import SampledSwitch
from thresher.signals.seed_rows import SeedRows
from thresher.signals.skill_labels import SkillLabels
from thresher.signals.skill_names import SkillExamples, SkillNames
from thresher.signals.skill_vector import SkillVector
from thresher.signals.skills import Skills
from thresher.signals.style import Style, WrittenStyles
from thresher.signals.suspicion import Suspicion
from thresher.signals.teacher import (
    TeacherJudge,
    TeacherStyle,
    TeacherWrittenScore,
    TeacherWrittenStyles,
)
from thresher.signals.teacher_sample import Learned, TeacherSample
from thresher.signals.trusted_rows import TrustedRows
from thresher.signals.visual_gain import VisualGain
from thresher.signals.visual_input import VisualInput
from thresher.signals.word_loss import WordLoss
from thresher.signals.written_score import WrittenScore
from thresher.signals.wrong import Wrong
from thresher.types import Field, ModelIdentity, Signal

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")
POOLED = ModelIdentity("api:m", "openai", "server", "jpeg", engine="embeddings")
OCR = CAPABILITIES[0]
SAMPLE = TeacherSample(0.1, 0)
LOSS, RATIONALE = AnswerLoss(MODEL), Rationale(MODEL)
OTHERS = OtherAnswers(RATIONALE)
SWITCH = AnswerSwitch(MODEL, RATIONALE, OTHERS)
MISTAKE = Mistake(RATIONALE, SWITCH)
KNOWLEDGE = Knowledge(LOSS)
CROSS, HELD = CrossRows(0.05, 0, 0), HeldOut(0)
SKILLS = Skills(Embedding(MODEL), Embedding(MODEL, part="answer"))
JUDGEMENT = Judgement(LOSS, PartLoss(MODEL, ImageSample(), image=False), SKILLS)

SIGNALS: list[Signal] = [
    Answer(MODEL),
    LOSS,
    SWITCH,
    Choice(MODEL),
    CrossFittedLoss(CROSS, LOSS, LOSS),
    CROSS,
    Demonstrations(KNOWLEDGE, "P", 0),
    Embedding(MODEL),
    PooledEmbedding(POOLED),
    Entropy(MODEL),
    FileOrder(),
    Gap(MISTAKE, MissingSkill(MODEL, RATIONALE, MISTAKE)),
    GuardRows(HELD, 1000, 0, LOSS, LOSS, SKILLS),
    GuardVerdict(HELD, LOSS, LOSS),
    HELD,
    IfMeasured(ImageSample(), CROSS),
    ImageSample(),
    Judge(MODEL, OCR),
    JUDGEMENT,
    KNOWLEDGE,
    Learned(SAMPLE),
    Length(),
    MissingSkill(MODEL, RATIONALE, MISTAKE),
    MISTAKE,
    OfficialScore(ResultFile("cap.jsonl", "sha256:0"), False),
    OfficialStyles(ResultFile("style.jsonl", "sha256:0")),
    OneShot(MODEL, Demonstrations(KNOWLEDGE, "P", 0)),
    OTHERS,
    OwnAnswerGap(MODEL),
    PartLoss(MODEL, HELD),
    QuestionLoss(MODEL, "P"),
    RATIONALE,
    RowSkills(MODEL),
    RowsToJudge(JUDGEMENT),
    SampledSwitch(MODEL, RATIONALE, OTHERS, 8),
    SeedRows(0.05, 0),
    SkillExamples(SKILLS),
    SkillLabels(SKILLS),
    SkillNames(MODEL, SkillExamples(SKILLS)),
    SkillVector(MODEL, MissingSkill(MODEL, RATIONALE, MISTAKE)),
    SKILLS,
    Style(MODEL, STYLES[0]),
    Suspicion(LOSS, SKILLS, VisualGain(LOSS)),
    TeacherJudge(MODEL, OCR, sample=SAMPLE),
    SAMPLE,
    TeacherStyle(MODEL, STYLES[0], sample=SAMPLE),
    TeacherWrittenScore(MODEL, OCR, sample=SAMPLE),
    TeacherWrittenStyles(MODEL, sample=SAMPLE),
    TrustedLoss(JUDGEMENT, LOSS, LOSS),
    TrustedRows(LOSS, LOSS, SKILLS, 0.05, 0, 0),
    VisualGain(LOSS),
    VisualInput(),
    WordLoss(MODEL),
    WrittenScore(MODEL, OCR),
    WrittenStyles(MODEL),
    Wrong(RATIONALE),
]

FINGERPRINTS = {
    "Answer": "5995cff0c42f7edf8afbffa8cc2cc236",
    "AnswerLoss": "1f612b129c4850a226d4cf8a72660e3e",
    "AnswerSwitch": "99aa13b7873bd231532443ac56913ac4",
    "Choice": "1294e9657d09db163168399d006646e1",
    "CrossFittedLoss": "7b52c5f9a73fbee982ca283bf1b78855",
    "CrossRows": "299ec63ffdd059c87d09fcf1d495d72e",
    "Demonstrations": "5e4d6a32039ce3d91d749cb1cdea6e96",
    "Embedding": "99c463cc20d5276e0b27f8d1dc519fde",
    "Entropy": "01833b316067857069d771336f579ea4",
    "FileOrder": "f007a14a8a1312e089d27774f94a8819",
    "Gap": "f133585552b6cfecd991cf3d1fea36fb",
    "GuardRows": "b71e906e419c231586c393f9ae2bf58c",
    "GuardVerdict": "d3481a23e95373234426af5584c003f0",
    "HeldOut": "7c7f88e990c9296620bb9f61955be2d7",
    "IfMeasured": "bacb32b267a5512fca2f6c09b6ccc1ad",
    "ImageSample": "1ab019b8cfca084136838987b893ec9c",
    "Judge": "10981e602f7366efd5859beb6b2132dc",
    "Judgement": "3122c2be76ae4ff18e2841ceb022d98c",
    "Knowledge": "4ceeddb867efba114568d804b0c5ff6c",
    "Learned": "4ed2b5ae325e6aa07bf904071234e539",
    "Length": "36c36c9f31cbe21eed2dc30acc59360a",
    "MissingSkill": "1cb93bd1e6daef1936660dcdbf3dc097",
    "Mistake": "f2aa15cd7a0ace5fc712e32d4c7bcdb8",
    "OfficialScore": "5401f9f08e1f17fe92b2a462bdb60b80",
    "OfficialStyles": "2ae45cbc468d52ca1ca070d9e591d09e",
    "OneShot": "88f6f7669c8006a2b9f73d17f971869a",
    "OtherAnswers": "77743c7d2f03acfe41a76e49c5564cf2",
    "OwnAnswerGap": "fdf169bde3db7d2bbb7052e60a638005",
    "PartLoss": "a51f9982fa972cc0ed168c0570dbcd2b",
    "PooledEmbedding": "737f9cb8945dcdc891a39bee1c893d0d",
    "QuestionLoss": "9f11b4e831bffc865eb1f1f06f399cef",
    "Rationale": "7855d23167929a724a2f70f8e5b019a8",
    "RowSkills": "ca72dcb31659ccfea341b02a7e731abf",
    "RowsToJudge": "51bfd369975f2f3cdc722e481d2c2ae0",
    "SampledSwitch": "40dc211ae28c1c6c519d4e6e3faee48c",
    "SeedRows": "ab4a96b98b179306515165e35c592ea9",
    "SkillExamples": "83e01bb5674a035a28652f26d5ddaf6b",
    "SkillLabels": "5c7c5a41ea212aecf82b163e14ed8511",
    "SkillNames": "cd1891266081388d0497d24c9c643799",
    "SkillVector": "047b2c4447c2945647fd7c59b7473a37",
    "Skills": "70b6bb4efc0d044959891bf16d6788b0",
    "Style": "467ec97c1d0fd77c7ce32ba8ef4b874e",
    "Suspicion": "ea3fca42446caffb28514eabd1efc48d",
    "TeacherJudge": "4d9d1a3b0fd5a6962165505807a10509",
    "TeacherSample": "d21f58db2cecfe07bb042d35c1980375",
    "TeacherStyle": "cff4986564b0c9d36af6ec9952c99ed2",
    "TeacherWrittenScore": "b7a657b7b8fc2c2765cf50f8dbb52a7c",
    "TeacherWrittenStyles": "8296a3aaf27079ebf80195dff0c2f40e",
    "TrustedLoss": "8a24d66a4f4a95647f728243a832aa99",
    "TrustedRows": "817f047988469a2b619412ec1d681c28",
    "VisualGain": "e9e590e9b51ddd9706f40ff4fcba5095",
    "VisualInput": "5978ea48d90e09f1a2c6a6b8a75bdea8",
    "WordLoss": "cae7e4e9b5d77507b04902296e3870ec",
    "WrittenScore": "e2b227127dc576923e249d9f172c4a4b",
    "WrittenStyles": "397dbe53a84b6c3115b6ca08715413e1",
    "Wrong": "357f9897c745f76d87c2adbdf8ec1fce",
}


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda s: type(s).__name__)
def test_a_signal_keeps_its_fingerprint(signal: Signal) -> None:
    assert fingerprint(signal) == FINGERPRINTS[type(signal).__name__]


def test_added_field_keeps_stored_columns() -> None:
    assert fingerprint(AnswerLoss(MODEL, image=True)) == FINGERPRINTS["AnswerLoss"]
    others = {
        fingerprint(AnswerLoss(MODEL, image=False)),
        fingerprint(AnswerLoss(MODEL, among_images=True)),
        fingerprint(AnswerLoss(MODEL, among_images=True, image=False)),
    }
    assert len(others) == 3 and FINGERPRINTS["AnswerLoss"] not in others


def test_every_signal_is_pinned() -> None:
    found = set()
    for module in pkgutil.iter_modules(thresher.signals.__path__):
        of = importlib.import_module(f"thresher.signals.{module.name}")
        for name, cls in inspect.getmembers(of, is_dataclass):
            result = getattr(cls, "fields", None)
            if (
                cls.__module__ == of.__name__
                and isinstance(result, tuple)
                and isinstance(result[0], Field)
            ):
                found.add(name)
    assert found == set(FINGERPRINTS) == {type(s).__name__ for s in SIGNALS}
