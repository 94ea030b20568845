"""Paths in run.yaml: found again from any working folder, also after a tree of folders was moved.

A path that the user gave as relative is stored relative to the folder of run.yaml, beginning with
`./` or `../`; all others are stored as they were given (absolute, `~`, an address, a hub id). On
reading, `./` and `../` start in the folder of run.yaml. Reads the file system, writes nothing.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thresher.pools.locate import absolute_spec, expand_braces, map_paths

POOLS = ("pool", "validation")  # keys whose value may name several paths, patterns or an address
PATHS = ("images", "validation_images", "keep", "drop", "store", "out")
PATHS_KEY, RULE = "paths", "those that begin with ./ or ../ start in the folder of this file"
PERHAPS = ("model", "embedder")  # a path where there is such a folder


def portable(
    config: Mapping[str, Any], folder: str | Path, models: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The `config` section as it is stored in `folder`/run.yaml.

    Arguments:
        config: by option, with the paths of this process.
        folder: of the selection.
        models: settings that name a model.
    """

    def stored(text: str) -> str:
        return _stored(text, os.path.realpath(folder))

    out = dict(config)
    for key in POOLS:
        if out.get(key):
            out[key] = map_paths(str(out[key]), stored)
    for key in PATHS:
        if out.get(key):
            out[key] = stored(str(out[key]))
    for key in PERHAPS:
        if out.get(key) and os.path.isdir(str(out[key])):
            out[key] = stored(str(out[key]))
    settings = dict(out.get("settings") or {})
    for key, value in settings.items():
        if isinstance(value, str) and (
            (key in models and os.path.isdir(value))
            or (key.endswith("_file") and os.path.isfile(value))
        ):
            settings[key] = stored(value)
    if settings:
        out["settings"] = settings
    return out


def located(content: Mapping[str, Any], folder: str | Path) -> dict[str, Any]:
    """The content of `folder`/run.yaml with paths that are valid in the working directory of
    this process.

    If a relative path to the pool, its images or the store does not exist (the selection was moved
    without them), the absolute one that is also stored is used. A file without the key
    `paths` is of an earlier version, whose paths start in the working folder: it stays as it is.

    Arguments:
        content: of run.yaml.
        folder: of the selection.
    """
    if PATHS_KEY not in content or not isinstance(content.get("pool"), dict):
        return dict(content)
    stored = content.get("config") or {}
    config, about = located_config(stored, folder), dict(content["pool"])
    out = {**content, "config": config, "pool": about}
    relative = {key for key, value in config.items() if value != stored[key]}
    if "pool" in relative:
        if _is_there(config["pool"]):
            moved = absolute_spec(config["pool"]) != about["path"]
            about["path"] = absolute_spec(config["pool"])
            if moved and "images" not in config:
                about["images"] = None  # they start where the pool is now
        else:
            config["pool"] = about["path"]
    if "images" in relative and about.get("images") is not None:
        if os.path.lexists(config["images"]):
            about["images"] = os.path.realpath(config["images"])
        else:
            config["images"] = about["images"]
    if "store" in relative:
        if os.path.lexists(config["store"]):
            out["store"] = os.path.realpath(config["store"])
        else:
            config["store"] = out["store"]
    return out


def located_config(config: Mapping[str, Any], folder: str | Path) -> dict[str, Any]:
    """A stored `config` section, its relative paths found from `folder`.

    Arguments:
        config: a stored `config` section.
        folder: of the selection.
    """

    def found(text: str) -> str:
        return find(text, folder)

    out = dict(config)
    for key in POOLS:
        if isinstance(out.get(key), str):
            whole = found(out[key])  # one path, which may hold commas
            out[key] = whole if _exists(whole) else map_paths(out[key], found)
    for key in (*PATHS, *PERHAPS):
        if isinstance(out.get(key), str):
            out[key] = found(out[key])
    settings = out.get("settings")
    if isinstance(settings, dict):
        out["settings"] = {k: found(v) if isinstance(v, str) else v for k, v in settings.items()}
    return out


def find(text: str, folder: str | Path) -> str:
    """One stored path: relative to the working folder if it exists there, else absolute.

    Arguments:
        text: the stored path.
        folder: that relative paths start from.
    """
    if not _is_relative(text):
        return text
    return _from_here(os.path.normpath(os.path.join(os.path.realpath(folder), text)))


def _stored(text: str, folder: str) -> str:
    if os.path.isabs(text) or text.startswith("~") or "://" in text:
        return text
    try:
        whole = os.path.abspath(text)
        relative = os.path.relpath(whole, folder)
    except (OSError, ValueError):  # the working directory was deleted; another drive of Windows
        return text
    if os.path.exists(text) and not _same(os.path.join(folder, relative), text):
        return whole  # a symbolic link before a `..`
    return relative if _is_relative(relative) else os.path.join(os.curdir, relative)


def _from_here(path: str) -> str:
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):
        return path
    return relative if _same(relative, path) or (_is_pattern(path) and _exists(relative)) else path


def _is_relative(text: str) -> bool:
    return text in (os.curdir, os.pardir) or text.startswith(("./", "../", ".\\", "..\\"))


def _exists(path: str) -> bool:
    """Whether a path or pattern matches an existing file."""
    if os.path.lexists(path) or os.path.lexists(path.partition("#")[0]):  # dataset_info.json#name
        return True
    return _is_pattern(path) and all(
        (glob.has_magic(p) and glob.glob(p)) or os.path.lexists(p) for p in expand_braces(path)
    )


def _is_pattern(path: str) -> bool:
    return glob.has_magic(path) or "{" in path


def _is_there(spec: str) -> bool:
    """Whether every path and pattern of a pool matches an existing file."""
    if _exists(spec):
        return True
    found: list[bool] = []

    def look(path: str) -> str:
        found.append(_exists(path))
        return path

    map_paths(spec, look)
    return all(found)


def _same(a: str, b: str) -> bool:
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):
        return False
