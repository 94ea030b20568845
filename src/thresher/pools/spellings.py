"""Finds a missing image under another spelling of its path: upper or lower case, NFC or NFD,
backslash for slash, percent-encoding, surrounding spaces.

Used in messages only: a path is never replaced by another. Lists each folder on the path once.
"""

from __future__ import annotations

import os
import threading
import unicodedata
from collections import OrderedDict
from urllib.parse import unquote

from thresher.pools.files import is_remote
from thresher.pools.paths import printable, unsafe_path_reason

_MAX_LISTINGS = 16  # cached folder listings


class SpellingFinder:
    """Searches one image folder. `root`: resolved, or an address, where nothing is searched."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._listed: OrderedDict[str, dict[str, str]] = OrderedDict()

    def find(self, path: str) -> str:
        """The path on disk that the missing `path` probably means; "" if there is none."""
        if is_remote(self.root) or unsafe_path_reason(path):
            return ""
        for spelling in dict.fromkeys((path, unquote(path))):
            folder, found = self.root, []
            for part in spelling.strip().replace("\\", "/").split("/"):
                if part in ("", "."):
                    continue
                name = (
                    part
                    if os.path.lexists(os.path.join(folder, part))
                    else self._names(folder).get(_normalized(part))
                )
                if name is None:
                    break
                found.append(name)
                folder = os.path.join(folder, name)
            else:
                other = "/".join(found)
                if other != path and not unsafe_path_reason(other) and os.path.isfile(folder):
                    return other
        return ""

    def describe(self, path: str) -> str:
        """How the probable file is spelled and what differs, for a message; "" if there is none."""
        other = self.find(path)
        return (
            f"the file is there as {printable(other)}: {_difference(path, other)}" if other else ""
        )

    def _names(self, folder: str) -> dict[str, str]:
        """Normalized name -> name on disk, for every entry of a folder."""
        with self._lock:  # called from many threads, and a folder may have a million entries
            known = self._listed.get(folder)
            if known is None:
                try:
                    entries = sorted(os.listdir(folder), reverse=True)
                except OSError:
                    entries = []
                known = {_normalized(name): name for name in entries}
                self._listed[folder] = known
                if len(self._listed) > _MAX_LISTINGS:
                    self._listed.popitem(last=False)
            return known


def _normalized(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.strip()).casefold())


def _difference(given: str, real: str) -> str:
    """How two spellings of one path differ, as text."""
    differences = []
    if "\\" in given:
        differences.append("the separator is / and not \\")
        given = given.replace("\\", "/")
    if given != real and unquote(given) != given and "%" in given:
        differences.append("the path is percent-encoded (%20 and the like)")
        given = unquote(given)
    if given != given.strip():
        differences.append("there are spaces around the path")
        given = given.strip()
    nfc = unicodedata.normalize("NFC", given), unicodedata.normalize("NFC", real)
    if given != real and (given, real) != nfc:
        differences.append("accents are written in another Unicode form (NFC or NFD)")
    if nfc[0] != nfc[1] and nfc[0].casefold() == nfc[1].casefold():
        differences.append("upper and lower case differ")
    return ", ".join(differences) or "it is spelled in another way"
