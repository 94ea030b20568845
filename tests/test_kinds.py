"""Pinned kind, version and fields of every class with an identity, which determine fingerprints.

A kind that disappears, or whose fields change without a new version, makes stored scores
unreachable or wrong. If the numbers change, raise `version` and update the line here.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import ClassVar

import pytest

import thresher
from thresher.fingerprint import fingerprint
from thresher.types import ModelIdentity

NOT_INSTALLED = ("mlflow", "tensorboard", "wandb")  # trackers, which the tests do not require

# kind -> (version, fields that are hashed)
KINDS: dict[str, tuple[int, str]] = {
    "answer": (1, "model max_new_tokens"),
    "answer_loss": (3, "model among_images image"),
    "answer_switch": (1, "model prior prompt end"),
    "capability": (0, "wording"),
    "choice": (2, "model otherwise"),
    "cross_fitted_loss": (1, "rows first second"),
    "cross_rows": (1, "fraction seed part least"),
    "demonstrations": (2, "knowledge teaches seed bank most_tokens"),
    "embedding": (1, "model layer part"),
    "entropy": (2, "model"),
    "exact_hash": (1, "algorithm"),
    "file_order": (1, ""),
    "gap": (1, "mistake missing_skill"),
    "guard_rows": (1, "held rows seed trust loss skills keep power gain"),
    "guard_verdict": (1, "held selected random judgement"),
    "held_out": (2, "seed most"),
    "if_measured": (1, "sample rows"),
    "image_hash": (1, "side"),
    "image_sample": (1, "most"),
    "judge": (2, "model capability prompt system"),
    "judgement": (1, "loss without_image skills"),
    "knowledge": (1, "loss long_answer"),
    "learned": (1, "sample"),
    "length": (1, "unit"),
    "missing_skill": (2, "model prompt max_new_tokens"),
    "mistake": (1, "rationale margins how delta lam seed"),
    "model": (0, "weights architecture dtype pixels image_pixels adapter engine engine_arguments"),
    "model_to_train": (0, "base recipe rows examples"),
    "official_result_file": (0, "content"),
    "official_score": (2, "file strict"),
    "official_styles": (2, "file"),
    "one_shot": (2, "model"),
    "other_answers": (1, "rationale most"),
    "part_loss": (2, "model image"),
    "pool_column": (1, "signal rows"),
    "pooled_embedding": (1, "model part"),
    "pooled_row_embedding": (1, "model width"),
    "own_answer_gap": (2, "model"),
    "query": (0, "text answers whole end"),
    "recorded": (1, "signal values"),
    "question_loss": (2, "model prompt"),
    "rationale": (2, "model instruction max_new_tokens"),
    "row_embedding": (2, "model width"),
    "row_skills": (3, "model most prompt"),
    "rows_to_judge": (1, "judgement within"),
    "sampled_switch": (2, "model draws seed prior prompt end temperature"),
    "score_examples": (1, "scores"),
    "seed_rows": (1, "fraction seed most"),
    "skills": (2, "question answer leaves dims iterations"),
    "skill_labels": (1, "skills"),
    "skill_examples": (1, "skills"),
    "skill_names": (1, "model prompt"),
    "skill_vector": (1, "model"),
    "style": (2, "model style styles prompt system"),
    "style_examples": (1, "styles one_by_one names prompt system"),
    "suspicion": (2, "loss skills gain"),
    "teacher_judge": (2, "model capability prompt system"),
    "teacher_sample": (1, "fraction seed"),
    "teacher_style": (2, "model style styles prompt system"),
    "teacher_written_score": (3, "model capability prompt system max_new_tokens"),
    "teacher_written_styles": (3, "model styles prompt system max_new_tokens"),
    "text_minhash": (1, "permutations shingle algorithm"),
    "trained_model": (0, "base recipe rows"),
    "training_recipe": (
        3,
        "epochs steps learning_rate batch accumulation lora lora_rank lora_alpha warmup schedule "
        "weight_decay seed precision freeze_vision",
    ),
    "trusted_loss": (1, "judgement base seed"),
    "visual_gain": (1, "loss"),
    "visual_input": (1, ""),
    "trusted_rows": (1, "trust loss skills fraction seed part least keep power gain"),
    "word_loss": (2, "model image"),
    "written_score": (3, "model capability prompt system max_new_tokens"),
    "written_styles": (3, "model styles prompt system max_new_tokens"),
    "wrong": (1, "rationale"),
}


def _classes() -> dict[str, type]:
    """kind -> the class that has it. Fails where two classes share one."""
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(thresher.__path__, "thresher."):
        if module.name.endswith("__main__"):
            continue
        try:
            imported = importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if not str(error.name).startswith(NOT_INSTALLED):
                raise
            continue
        for value in vars(imported).values():
            if not isinstance(value, type) or not dataclasses.is_dataclass(value):
                continue
            if value.__module__ != module.name or not isinstance(vars(value).get("kind"), str):
                continue
            if not value.__dataclass_params__.frozen:
                continue
            kind = vars(value)["kind"]
            if any(f.name == "kind" for f in dataclasses.fields(value)):
                continue  # an ordinary field of that name
            assert kind not in found, f"{value} and {found[kind]} have one kind"
            found[kind] = value
    return found


def _signature(cls: type) -> tuple[int, str]:
    skip = getattr(cls, "not_identity", ())
    names = [f.name for f in dataclasses.fields(cls) if f.name not in skip]
    return getattr(cls, "version", 0), " ".join(names)


def test_every_kind_is_pinned() -> None:
    found = {kind: _signature(cls) for kind, cls in _classes().items()}
    assert dict(sorted(found.items())) == KINDS


def test_a_class_that_moves_keeps_its_fingerprint() -> None:
    body = {"kind": "moved", "__annotations__": {"kind": ClassVar[str], "size": int}}
    here = dataclasses.dataclass(frozen=True)(
        type("Here", (), {**body, "__module__": "thresher.old"})
    )
    there = dataclasses.dataclass(frozen=True)(
        type("There", (), {**body, "__module__": "thresher.new.place"})
    )
    assert fingerprint(here(3)) == fingerprint(there(3))
    assert fingerprint(here(3)) != fingerprint(here(4))


def test_a_subclass_does_not_inherit_an_identity() -> None:
    @dataclasses.dataclass(frozen=True)
    class Nearly(ModelIdentity):
        pass

    with pytest.raises(TypeError, match="Nearly has no identity: give the class a `kind"):
        fingerprint(Nearly("sha256:1", "llava", "float32", "pil"))


def test_kind_and_version_are_part_of_the_fingerprint() -> None:
    @dataclasses.dataclass(frozen=True)
    class First:
        kind: ClassVar[str] = "first"
        version: ClassVar[int] = 1

    @dataclasses.dataclass(frozen=True)
    class Second:
        kind: ClassVar[str] = "second"
        version: ClassVar[int] = 1

    @dataclasses.dataclass(frozen=True)
    class Later:
        kind: ClassVar[str] = "first"
        version: ClassVar[int] = 2

    assert len({fingerprint(First()), fingerprint(Second()), fingerprint(Later())}) == 3
