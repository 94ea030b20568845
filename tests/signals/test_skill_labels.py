"""Labels of skills: distinct words, and identifiers that do not depend on numbers."""

from __future__ import annotations

import numpy as np
import pytest

from tests.methods.planted_columns import digests
from thresher.errors import CapabilityError
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.named import SHORT, named_field, signals_by_name, signals_for
from thresher.signals.skill_labels import SkillLabels
from thresher.signals.skills import skills_of
from thresher.signals.suspicion import suspicion_signals
from thresher.types import Columns, ModelIdentity, digests_to_bytes, seeded_ties

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")
WORDS = {0: "red car", 1: "what colour", 2: "red car", 3: ""}
GROUP = {0: 0, 1: 0, 2: 1, 3: 2}
GROUP_WORDS = {0: "colour", 1: "colour", 2: "digits"}


def labelled(leaf: list[int], typicality: list[float]) -> dict[str, np.ndarray]:
    n = len(leaf)
    digest = np.sort(digests(n))
    skills = {
        "leaf": np.array(leaf, np.int32),
        "parent": np.array([GROUP[k] for k in leaf], np.int32),
        "typicality": np.array(typicality, np.float32),
        "words": np.array([WORDS[k] for k in leaf], object),
        "parent_words": np.array([GROUP_WORDS[GROUP[k]] for k in leaf], object),
    }
    columns = Columns(
        digest, seeded_ties(digest, 0), np.zeros(n, np.int32), ("",), {"skills": skills}
    )
    return SkillLabels(skills_of(MODEL)).pool(columns)


def test_labels_by_hand() -> None:
    found = labelled([0, 1, 1, 1, 2, 3, 3], [0.5, 0.1, 0.9, 0.9, 0.5, 0.2, 0.3])
    hexes = [d.hex()[:8] for d in digests_to_bytes(np.sort(digests(7)))]
    assert found["id"].tolist() == [hexes[i] for i in (0, 2, 2, 2, 4, 6, 6)]
    assert found["label"].tolist() == [
        f"red car ({hexes[0]})",
        *["what colour"] * 3,
        f"red car ({hexes[4]})",
        *["no words"] * 2,
    ]
    # a group has the identifier of its largest skill
    assert found["group_id"].tolist() == [hexes[i] for i in (2, 2, 2, 2, 4, 6, 6)]
    assert found["group"].tolist() == [
        *[f"colour ({hexes[2]})"] * 4,
        f"colour ({hexes[4]})",
        *["digits"] * 2,
    ]


def test_identifiers_do_not_depend_on_numbers(monkeypatch) -> None:
    leaf, typicality = [0, 1, 1, 2, 3], [0.1, 0.9, 0.2, 0.3, 0.4]
    first = labelled(leaf, typicality)
    other = {0: 3, 1: 0, 2: 1, 3: 2}
    for table in (WORDS, GROUP):
        for number, value in {other[k]: v for k, v in table.items()}.items():
            monkeypatch.setitem(table, number, value)
    again = labelled([other[k] for k in leaf], typicality)
    for name in ("label", "id", "group", "group_id"):
        assert first[name].tolist() == again[name].tolist(), name


def test_no_rows() -> None:
    assert all(len(values) == 0 for values in labelled([], []).values())


def test_names_reach_fields_and_what_they_are_made_from() -> None:
    table = signals_by_name(MODEL)
    for name in SHORT:
        field = named_field(name)
        assert field is not None and field.signal in table
        assert field.field in [f.name for f in table[field.signal].fields]
        assert named_field(field.full_name) is not None
    assert named_field("skills.leaf") and not named_field("skills.vector")
    suspicion = named_field("suspicion")
    assert suspicion is not None
    # as `thresher suspects` computes them: the store has them under the same names
    needed = list(signals_for([suspicion], MODEL).values())
    assert [s for s in needed if s != AnswerLoss(MODEL, image=False)] == list(
        suspicion_signals(MODEL).values()
    )
    tokens = named_field("answer_tokens")
    assert tokens is not None and list(signals_for([tokens], MODEL)) == ["answer_loss"]


def test_a_server_computes_the_fields_of_losses_only() -> None:
    served = ModelIdentity("api:m", "openai", "server", "")
    for name in ("answer_loss", "greedy_match", "visual_gain", "score_humanities"):
        found = named_field(name)
        assert found is not None and signals_for([found], served)
    for name in ("entropy", "own_answer_gap", "skill", "suspicion"):
        found = named_field(name)
        assert found is not None
        with pytest.raises(CapabilityError, match=f"{name} is computed .* behind a server"):
            signals_for([found], served)
