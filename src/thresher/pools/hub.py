"""Data sets of the `datasets` library: folders of `save_to_disk` or of its cache, and hub ids.

All are read as local Arrow files, which `columnar.py` maps into memory. A hub id is downloaded by
`datasets` into its own cache.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Any

from thresher.errors import MissingExtra, PoolError, reason_of
from thresher.extras import install_command
from thresher.pools.file_spec import FileSpec
from thresher.pools.paths import printable
from thresher.pools.splits import split_of
from thresher.text import parse_json


def saved_dataset_files(folder: str, images: str | None) -> list[FileSpec]:
    """The Arrow files of a folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote.

    Arguments:
        folder: that was saved.
        images: image folder of all files; None: the folder itself.

    Raises PoolError: several splits, no files.
    """
    state = os.path.join(folder, "state.json")
    if not os.path.exists(state):
        splits = _read_json(os.path.join(folder, "dataset_dict.json")).get("splits")
        names = [str(s) for s in splits] if isinstance(splits, list) else []
        split = _training_split(names)
        if not split:
            raise PoolError(
                f"{folder} holds the splits {', '.join(names) or '(none)'}. Give one of them: "
                f"{folder}/SPLIT."
            )
        found = saved_dataset_files(os.path.join(folder, split), images)
        return [replace(found[0], note=_splits_note(folder, split, names)), *found[1:]]
    named = [
        f.get("filename") for f in _read_json(state).get("_data_files") or [] if isinstance(f, dict)
    ]
    paths = [os.path.join(folder, os.path.basename(f)) for f in named if isinstance(f, str)]
    if not paths:
        raise PoolError(f"{state} names no Arrow files. Save the data set again with save_to_disk.")
    name = os.path.basename(os.path.abspath(folder))
    if name in ("train", "test", "validation"):
        name = os.path.basename(os.path.dirname(os.path.abspath(folder))) or name
    root = images or os.path.realpath(folder)
    return [FileSpec(os.path.abspath(p), name, root, "datasets") for p in paths]


def cached_dataset_files(folder: str, info: dict[str, Any], images: str | None) -> list[FileSpec]:
    """The Arrow files of a folder of the datasets cache.

    Arguments:
        folder: of the data set in the cache.
        info: its dataset_info.json.
        images: image folder of all files; None: the folder itself.

    Raises PoolError if it is unclear which split to read.
    """
    arrow_files = sorted(
        f
        for f in os.listdir(folder)
        if f.endswith(".arrow") and not f.startswith(("cache-", "tmp", "."))
    )
    listed = info.get("splits")
    splits: dict[str, list[str]] = {}
    for file in arrow_files:  # NAME-SPLIT.arrow, NAME-SPLIT-00000-of-00002.arrow
        stem = re.sub(r"-\d+-of-\d+$", "", file.removesuffix(".arrow"))
        names = sorted(map(str, listed), key=len, reverse=True) if isinstance(listed, dict) else []
        split = next(
            (n for n in names if stem == n or stem.endswith(f"-{n}")), stem.rpartition("-")[2]
        )
        splits.setdefault(split, []).append(file)
    split = _training_split(list(splits))
    if not split:
        paths = ", ".join(printable(os.path.join(folder, files[0])) for files in splits.values())
        raise PoolError(
            f"{folder} holds the splits {', '.join(splits) or '(none)'}. Give the files of one: "
            f"{paths}."
        )
    name = str(
        info.get("dataset_name")
        or info.get("builder_name")
        or os.path.basename(os.path.abspath(folder))
    )
    root, note = images or os.path.realpath(folder), _splits_note(folder, split, list(splits))
    found = [
        FileSpec(os.path.abspath(os.path.join(folder, f)), name, root, "datasets")
        for f in splits[split]
    ]
    return [replace(found[0], note=note), *found[1:]]


def _training_split(names: list[str]) -> str:
    """The split to read: `train`, the only training split (`train_sft`), or the only split; "" if
    that is unclear.
    """
    training = (
        [n for n in names if n == "train"] or [n for n in names if split_of(n) == "train"] or names
    )
    return training[0] if len(training) == 1 else ""


def _splits_note(folder: str, split: str, names: list[str]) -> str:
    """A note if splits are not read, or if the one that is read is not a training split; "" for
    neither.
    """
    others = [n for n in names if n != split]
    if others:
        return (
            f"{folder}: of its splits, {split} is read and {', '.join(map(printable, others))} not."
        )
    held_out = split_of(split) not in ("", "train")
    return f"{folder} has only the split {printable(split)}, which is read." if held_out else ""


def download_dataset(spec: str, images: str | None) -> list[FileSpec]:
    """The Arrow files of a hub data set: `org/name` or `org/name@split` (default: train).

    Arguments:
        spec: `org/name` or `org/name@split`.
        images: image folder of all files; None: the folder of the files.

    Raises PoolError (no network, no such data set), MissingExtra (`datasets` is not installed).
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtra(
            f"{spec} is a data set of the hub; reading it needs: {install_command('hub')}"
        ) from None
    name, _, split = spec.partition("@")
    try:
        data: Any = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # connection errors, unknown names and splits: a dozen types
        raise PoolError(
            f"There is no file or folder {spec}, and the data set could not be fetched from the "
            f"hub: {reason_of(error)}. Give a local path, check the "
            "name (org/name@split), or the network."
        ) from error
    paths = [f["filename"] for f in data.cache_files]
    if not paths:
        raise PoolError(
            f"{spec} was loaded without files on disk. Save it with save_to_disk and give that "
            "folder."
        )
    return [
        FileSpec(
            os.path.abspath(p), name.rpartition("/")[2], images or os.path.dirname(p), "datasets"
        )
        for p in paths
    ]


def _read_json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8-sig") as f:
            content = parse_json(f.read())
    except (OSError, ValueError) as error:
        raise PoolError(
            f"{path} cannot be read: {error}. Save the data set again with save_to_disk."
        ) from error
    return content if isinstance(content, dict) else {}
