"""Duplicate rows: exact, near and semantic, within one pool and between two (contamination).

All but the definitions need the extra `duplicates` (rensa, imagehash).
"""

from thresher.duplicates.contamination import (
    Contamination,
    ContaminationCheck,
    check_contamination,
    find_contamination,
    only_exact_note,
    unchecked_note,
)
from thresher.duplicates.signals import ImageHash, TextMinhash

__all__ = [
    "Contamination",
    "ContaminationCheck",
    "ImageHash",
    "TextMinhash",
    "check_contamination",
    "find_contamination",
    "only_exact_note",
    "unchecked_note",
]
