"""Rows that say the same: exact, near and by meaning, inside one pool and between two (leakage).

Needs the extra `duplicates` (rensa, imagehash) for anything but the definitions.
"""

from thresher.duplicates.leaks import Leak, find_leaks, only_exact_note
from thresher.duplicates.signals import ImageHash, TextMinhash

__all__ = ["ImageHash", "Leak", "TextMinhash", "find_leaks", "only_exact_note"]
