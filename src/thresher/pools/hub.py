"""Data sets of the `datasets` library: folders of `save_to_disk`, and hub ids where there is a network.

Both end as Arrow files on this machine, which `columnar.py` maps into memory. A hub id is downloaded by `datasets` into
its own cache.
"""

from __future__ import annotations

import os
from typing import Any

from thresher.errors import MissingExtra, PoolError
from thresher.extras import install
from thresher.pools.locate import Source
from thresher.text import parse_json


def saved(folder: str, images: str | None) -> list[Source]:
    """The Arrow files of a folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote."""
    state = os.path.join(folder, "state.json")
    if not os.path.exists(state):
        splits = _json(os.path.join(folder, "dataset_dict.json")).get("splits")
        names = [str(s) for s in splits] if isinstance(splits, list) else []
        split = "train" if "train" in names else names[0] if len(names) == 1 else ""
        if not split:
            raise PoolError(
                f"{folder} holds the splits {', '.join(names) or '(none)'}. Give one of them: {folder}/SPLIT."
            )
        return saved(os.path.join(folder, split), images)
    named = [f.get("filename") for f in _json(state).get("_data_files") or [] if isinstance(f, dict)]
    paths = [os.path.join(folder, os.path.basename(f)) for f in named if isinstance(f, str)]
    if not paths:
        raise PoolError(f"{state} names no Arrow files. Save the data set again with save_to_disk.")
    name = os.path.basename(os.path.abspath(folder))
    if name in ("train", "test", "validation"):
        name = os.path.basename(os.path.dirname(os.path.abspath(folder))) or name
    root = images or os.path.realpath(folder)
    return [Source(os.path.abspath(p), name, root, "datasets") for p in paths]


def from_hub(spec: str, images: str | None) -> list[Source]:
    """The Arrow files of a data set of the hub: `org/name`, `org/name@split` (default: train).

    Raises PoolError (no network, no such data set), MissingExtra (`datasets` is not installed).
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtra(f"{spec} is a data set of the hub; reading it needs: {install('hub')}") from None
    name, _, split = spec.partition("@")
    try:
        data: Any = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # connection errors, unknown names and splits: a dozen types
        raise PoolError(
            f"There is no file or folder {spec}, and the data set could not be fetched from the hub: "
            f"{str(error).strip() or type(error).__name__}. Give a local path, check the name (org/name@split), or the network."
        ) from error
    paths = [f["filename"] for f in data.cache_files]
    if not paths:
        raise PoolError(f"{spec} was loaded without files on disk. Save it with save_to_disk and give that folder.")
    return [
        Source(os.path.abspath(p), name.rpartition("/")[2], images or os.path.dirname(p), "datasets") for p in paths
    ]


def _json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8-sig") as f:
            content = parse_json(f.read())
    except (OSError, ValueError) as error:
        raise PoolError(f"{path} cannot be read: {error}. Save the data set again with save_to_disk.") from error
    return content if isinstance(content, dict) else {}
