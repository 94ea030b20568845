"""Readable labels of skills, and identifiers that stay valid when the pool grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.signals.skills import skills_of, typical_rows
from thresher.types import AnyModel, Columns, Field, Signal, digests_to_bytes

ID_LENGTH = 8  # hexadecimal digits; more if two skills of the pool share that many
NO_WORDS = "no words"


@dataclass(frozen=True)
class SkillLabels:
    """The characteristic words of each skill, as labels that are unique within the pool.

    An identifier is a prefix of the digest of the skill's most typical row. Unlike the number of a
    skill, which another skill may have once the pool has grown, it then refers to the same skill or
    to none.
    """

    skills: Signal
    """Fields `leaf`, `parent`, `typicality`, `words`, `parent_words`."""

    kind: ClassVar[str] = "skill_labels"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("label", "str", "the words of the row's skill; its identifier behind equal words"),
        Field("id", "str", "identifier of the skill, hexadecimal digits"),
        Field("group", "str", "the words of the group of skills that it belongs to"),
        Field("group_id", "str", "identifier of that group: of its largest skill"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"skills": self.skills}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        skills = inputs["skills"]
        leaf = np.unique(skills["leaf"], return_inverse=True)[1]
        typical = typical_rows(leaf, np.asarray(skills["typicality"]), 1)  # one row a leaf
        ids = _unique_prefixes([d.hex() for d in digests_to_bytes(inputs.digest[typical])])
        labels = _labels(np.asarray(skills["words"])[typical].tolist(), ids)
        parent = np.unique(skills["parent"], return_inverse=True)[1]
        largest = _largest_leaf(parent[typical], np.bincount(leaf, minlength=len(ids)), ids)
        group_ids = [ids[i] for i in largest]
        words = np.asarray(skills["parent_words"])[typical[largest]].tolist()
        return {
            "label": np.array(labels, object)[leaf],
            "id": np.array(ids, object)[leaf],
            "group": np.array(_labels(words, group_ids), object)[parent],
            "group_id": np.array(group_ids, object)[parent],
        }


def skill_columns(model: AnyModel) -> dict[str, Signal]:
    """Columns for a method that groups rows by skill: numbers (`skills`) and labels (`skill`)."""
    skills = skills_of(model)
    return {"skills": skills, "skill": SkillLabels(skills)}


def skill_reasons(columns: Columns) -> dict[str, np.ndarray]:
    """The skill of each row in words, as reasons of a method that asked for `skill_columns`."""
    found = columns["skill"]
    return {"skill": found["label"], "skill_group": found["group"]}


def _largest_leaf(parent: np.ndarray, size: np.ndarray, ids: list[str]) -> np.ndarray:
    """The largest leaf of each parent, int64 [parents]; among equals the one with the lowest id.

    Arguments:
        parent: int [leaves].
        size: int [leaves], rows.
        ids: of the leaves.
    """
    order = np.lexsort((np.array(ids, "U64"), -size, parent))
    first = np.unique(parent[order], return_index=True)[1]
    out: np.ndarray = order[first]
    return out


def _unique_prefixes(digests: list[str]) -> list[str]:
    """The digests, cut to the shortest unique prefixes of equal length, at least `ID_LENGTH`.

    >>> _unique_prefixes(["0123456789", "0123456700"])
    ['012345678', '012345670']
    """
    length = ID_LENGTH
    while len({d[:length] for d in digests}) < len(set(digests)):
        length += 1
    return [d[:length] for d in digests]


def _labels(words: list[str], ids: list[str]) -> list[str]:
    """
    >>> _labels(["red car", "", "red car"], ["a1", "b2", "c3"])
    ['red car (a1)', 'no words', 'red car (c3)']
    """
    plain = [text or NO_WORDS for text in words]
    times = Counter(plain)
    return [
        f"{text} ({id_})" if times[text] > 1 else text for text, id_ in zip(plain, ids, strict=True)
    ]
