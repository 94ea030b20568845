"""Results of mmSSR's official program (Lyu et al., arXiv:2503.13383) as columns: no model is asked.

Its folder has a file for each capability, `CAP.jsonl`, and `style.jsonl`. A line is
`{"idx": …, "pred_response": "4"}`: the `idx` of a record and what the model wrote, a number or the
styles separated by commas. Rows without a line have no value.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from thresher.errors import ConfigError
from thresher.signals.capabilities import STYLES
from thresher.signals.style import style_bits
from thresher.signals.written_score import score_of
from thresher.text import parse_json
from thresher.types import Field, Signal

STYLE = "style"
SUFFIX = ".jsonl"


@dataclass(frozen=True)
class ResultFile:
    """A file of results. `content` is its SHA-256, so its place is not part of an identity."""

    path: str
    content: str

    kind: ClassVar[str] = "official_result_file"
    not_identity: ClassVar[tuple[str, ...]] = ("path",)

    @classmethod
    def of(cls, path: Path) -> ResultFile:
        stat = path.stat()
        return cls(str(path), _digest(str(path), stat.st_size, stat.st_mtime_ns))


@dataclass(frozen=True)
class OfficialScore:
    """One capability's score of each row."""

    file: ResultFile
    strict: bool
    """True: only whole numbers count, as in the official program; False: as `WrittenScore` reads
    an answer."""

    kind: ClassVar[str] = "official_score"
    version: ClassVar[int] = 2  # 2: a row without a line is distinct from an empty answer
    fields: ClassVar[tuple[Field, ...]] = (
        Field("listed", "bool", "the file has a line for the row"),
        Field("text", "str", 'what the model wrote; "": no line, or an empty answer'),
        Field("score", "float32", "the rating in it; NaN: unclear, or no result"),
        Field("parsed", "bool", "a rating is clear"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def facts(self, facts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        listed, text = _texts(self.file, facts["idx"])
        read = _whole if self.strict else score_of
        score = np.array([read(t) if t else np.nan for t in text], np.float32)
        return {"listed": listed, "text": text, "score": score, "parsed": ~np.isnan(score)}


@dataclass(frozen=True)
class OfficialStyles:
    """The styles of each row."""

    file: ResultFile

    kind: ClassVar[str] = "official_styles"
    version: ClassVar[int] = 2  # 2: a row without a line is distinct from an empty answer
    fields: ClassVar[tuple[Field, ...]] = (
        Field("listed", "bool", "the file has a line for the row"),
        Field("text", "str", 'the written list; "": no line, or an empty answer'),
        Field("styles", "int32", "bit k: style k of mmSSR's nine is in the list"),
        Field("parsed", "bool", "at least one of the nine is in the list"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def facts(self, facts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        listed, text = _texts(self.file, facts["idx"])
        bits = np.array([style_bits(t, STYLES) if t else 0 for t in text], np.int32)
        return {"listed": listed, "text": text, "styles": bits, "parsed": bits != 0}


def result_files(folder: str) -> dict[str, Path]:
    """The files of a folder by the name of the capability, or `style`: lower case, `_` for spaces.

    Raises ConfigError (`settings.results`) if there is no style.jsonl, or no file beside it.
    """
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise ConfigError(": there is no such folder.", option="settings.results", value=folder)
    files = {
        p.stem.strip().lower().replace(" ", "_"): p
        for p in sorted(place.iterdir())
        if p.suffix == SUFFIX and p.is_file()
    }
    if STYLE not in files or len(files) < 2:
        missing = "style.jsonl" if STYLE not in files else "file CAPABILITY.jsonl"
        raise ConfigError(
            f": there is no {missing}. The official program writes style.jsonl and a "
            "CAPABILITY.jsonl for each capability.",
            option="settings.results",
            value=folder,
        )
    return files


def written_styles(text: str) -> list[str]:
    """The styles of a list in their order, as the official program reads them: separated by commas,
    otherwise as written, each once.

    >>> written_styles("yes/no, comparison,yes/no")
    ['yes/no', 'comparison']
    """
    return list(dict.fromkeys(part.strip() for part in text.split(",")))


def _whole(text: str) -> float:
    try:
        return float(int(text))
    except ValueError:
        return float("nan")


def _texts(file: ResultFile, idx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each row has a line, bool [n], and its text, object [n]; "" without a line. Raises
    ConfigError if no line belongs to a row."""
    results = _results(file.path, file.content)
    text = np.array([results.get(key, "") for key in idx], object)
    listed = np.array([key in results for key in idx], bool)
    if not listed.any():
        known = next((key for key in idx.tolist() if key), "none")
        raise ConfigError(
            f": no line of {os.path.basename(file.path)} belongs to a row. Its first idx is "
            f"{next(iter(results), 'none')}; the first record's idx (or else id) is {known}.",
            option="settings.results",
            value=os.path.dirname(file.path),
        )
    return listed, text


@functools.lru_cache(maxsize=32)
def _digest(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as f:
        return "sha256:" + hashlib.file_digest(f, "sha256").hexdigest()


@functools.lru_cache(maxsize=2)
def _results(path: str, content: str) -> dict[str, str]:
    """idx as JSON -> text. Raises ConfigError."""
    out: dict[str, str] = {}

    def wrong(number: int, why: str) -> ConfigError:
        return ConfigError(
            f": line {number:,} of {os.path.basename(path)} {why}. A line such as "
            '{"idx": 7, "pred_response": "4"} is expected.',
            option="settings.results",
            value=os.path.dirname(path),
        )

    with open(path, "rb") as f:
        for number, line in enumerate(f, 1):
            if not line.strip():
                continue
            try:
                record = parse_json(line)
            except ValueError:
                raise wrong(number, "is not JSON") from None
            if not isinstance(record, dict) or not {"idx", "pred_response"} <= record.keys():
                raise wrong(number, "lacks idx or pred_response")
            key = json.dumps(record["idx"], ensure_ascii=False)
            if key in out:
                raise wrong(number, f"repeats the idx {key}")
            response = record["pred_response"]
            out[key] = "" if response is None else str(response).strip()
    return out
