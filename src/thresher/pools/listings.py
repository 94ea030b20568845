"""Small files that list a pool's files: mixture YAML (LLaVA-OneVision's) and LLaMA-Factory's
dataset_info.json.

    datasets:
      - json_path: base/{a,b}.json      # any format; also `path`
        sampling_strategy: first:10%    # all | first:N | end:N | random:N, N rows or N% (rounded
                                        up, as LLaVA-NeXT does)
        source: vqa                     # optional: the source of its rows, overriding the records
        images: folder                  # optional: the folder of its image paths
        format: swift                   # optional
    seed: 0                             # optional: for `random`

Paths are relative to the listing. Reads that file only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from thresher.errors import PoolError, opt
from thresher.pools import files
from thresher.pools.file_spec import FileSpec, Locate, local_folder
from thresher.pools.paths import printable
from thresher.pools.readers import check_format
from thresher.pools.splits import held_out_entries_note
from thresher.text import ParseError, parse_json, parse_yaml

MAX_LISTING_BYTES = 4 << 20  # bytes: a larger file is a pool itself
STRATEGY = re.compile(r"all|(?:first|end|random):(?:\d+|\d+(?:\.\d+)?%)")
_MIXTURE = re.compile(r"^\W{0,3}datasets\W", re.MULTILINE)
_KEYS = (
    "json_path",
    "path",
    "sampling_strategy",
    "source",
    "name",
    "images",
    "image_folder",
    "format",
)
_open_listings: ContextVar[tuple[str, ...]] = ContextVar(
    "the listings that are being followed", default=()
)
_DATASETS_KEYS = (
    "features",
    "builder_name",
    "splits",
    "config_name",
    "dataset_name",
    "version",
    "citation",
    "license",
)
_LOCATIONS = ("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url")


def read_listing(
    path: str, images: str | None, format: str | None, locate: Locate
) -> list[FileSpec] | None:
    """The files that a listing names; None if the file is a pool itself.

    Arguments:
        path: of the listing.
        images: image folder of all files; None: each file's own folder.
        format: a name of `readers.FORMATS`; None: detected.
        locate: resolves the entries.

    Raises PoolError for an invalid listing.
    """
    with guard_recursion(path):
        return _read_listing(path, images, format, locate)


@contextmanager
def guard_recursion(path: str) -> Iterator[None]:
    """Context in which the entries of the listing at `path` are resolved. Raises PoolError if it
    contains itself, at any depth.
    """
    listing = path if files.is_remote(path) else os.path.realpath(path)
    if listing in _open_listings.get():
        raise PoolError(
            f"{path} contains itself, directly or through another listing. Remove that entry."
        )
    token = _open_listings.set((*_open_listings.get(), listing))
    try:
        yield
    finally:
        _open_listings.reset(token)


def _read_listing(
    path: str, images: str | None, format: str | None, locate: Locate
) -> list[FileSpec] | None:
    content = _parse_listing(path, format)
    if content is None:
        return None
    if isinstance(content, dict):
        if isinstance(content.get("datasets"), list) and format != "llamafactory":
            return read_mixture(content, path, images, locate)
        if content and all(
            isinstance(v, dict) and any(k in v for k in _LOCATIONS) for v in content.values()
        ):
            return read_dataset_info(path, images, locate)
        _refuse_internvl_meta(content, path)
    if format in ("mixture", "llamafactory"):
        raise PoolError(
            f"{path} is not a {'mixture' if format == 'mixture' else 'dataset_info.json'}: "
            f"expected {_EXPECTED[format]}."
        )
    return None


def _refuse_internvl_meta(content: Mapping[Any, Any], path: str) -> None:
    """Raises PoolError for a meta file of InternVL, which names annotation files but is not a
    pool."""
    entries = {
        k: v
        for k, v in content.items()
        if isinstance(v, dict) and isinstance(v.get("annotation"), str)
    }
    if not entries or len(entries) < len(content):
        return
    name, entry = next(iter(entries.items()))
    root = entry.get("root")
    images = f", {opt('images', printable(root))}" if isinstance(root, str) and root else ""
    raise PoolError(
        f"{path} is a meta file of InternVL: it names {len(entries)} annotation files and contains "
        "no records. Open the files themselves, such as "
        f"{printable(str(name))}={printable(entry['annotation'])}{images} (several: separated by "
        f"commas, "
        "or as a mixture: a YAML file with `datasets:`)."
    )


_EXPECTED = {
    "mixture": "`datasets:` with a list of {json_path, sampling_strategy}",
    "llamafactory": 'an object of {"name": {"file_name": …}}',
}


def read_mixture(
    content: Mapping[str, Any], path: str, images: str | None, locate: Locate
) -> list[FileSpec]:
    """The files of a mixture, in its order. Raises PoolError for an invalid entry.

    Arguments:
        content: of the YAML file.
        path: of the YAML file.
        images: image folder of all files; None: those of the entries.
        locate: resolves the entries.
    """
    seed = content.get("seed", 0)
    if not isinstance(seed, int):
        raise PoolError(f"{path}: seed is {printable(repr(seed))}; expected a whole number.")
    out: list[FileSpec] = []
    for number, entry in enumerate(content["datasets"]):
        position = f"{path}, entry {number + 1} of datasets"
        if isinstance(entry, str):
            entry = {"json_path": entry}
        if not isinstance(entry, dict):
            raise PoolError(
                f"{position}: {printable(repr(entry))}; expected {{json_path: FILE, "
                "sampling_strategy: "
                "all}."
            )
        unknown = [printable(str(k)) for k in entry if k not in _KEYS]
        if unknown:
            raise PoolError(
                f"{position}: unknown {', '.join(unknown[:8])}; known: {', '.join(_KEYS)}."
            )
        target = entry.get("json_path") or entry.get("path")
        if not isinstance(target, str):
            raise PoolError(
                f"{position} has no json_path (a file, a pattern or base/{{a,b}}.json)."
            )
        strategy = str(entry.get("sampling_strategy") or "all").replace(" ", "")
        if not STRATEGY.fullmatch(strategy):
            raise PoolError(
                f"{position}: sampling_strategy {printable(strategy)!r}; expected all, first:10%, "
                "first:500, end:500 or random:20%."
            )
        given_format = entry.get("format")
        check_format(given_format)
        folder = images
        own_folder = entry.get("images") or entry.get("image_folder")
        if own_folder is not None and images is None:
            folder = _resolve_beside(path, str(own_folder))
            if not files.is_remote(folder):
                if not os.path.isdir(folder):
                    raise PoolError(
                        f"{position}: the image folder {printable(folder)} does not exist."
                    )
                folder = os.path.realpath(folder)
        name = entry.get("source") or entry.get("name")
        for source in locate(_resolve_beside(path, target), folder, given_format):
            if name is not None:
                source = replace(source, source=str(name), source_given=True)
            if strategy != "all":
                if source.sampling:
                    raise PoolError(
                        f"{position} is itself a mixture that samples; give its strategy in one of "
                        "the two."
                    )
                source = replace(source, sampling=strategy, seed=seed, entry=number)
            out.append(source)
    if not out:
        raise PoolError(f"{path} names no data sets.")
    return out


def datasets_library_info(path: str) -> dict[str, Any] | None:
    """The content of a dataset_info.json that the `datasets` library wrote; None for any other
    file.
    """
    content = _parse_listing(path, "llamafactory")
    if not isinstance(content, dict) or any(
        isinstance(v, dict) and any(k in v for k in _LOCATIONS) for v in content.values()
    ):
        return None
    return content if len(content.keys() & set(_DATASETS_KEYS)) >= 2 else None


def read_dataset_info(
    path: str, images: str | None, locate: Locate, entry: str = ""
) -> list[FileSpec]:
    """The local files of a LLaMA-Factory dataset_info.json: all of them, or those of one entry.

    Arguments:
        path: of the file.
        images: image folder of all files; None: the folder of the listing.
        locate: resolves the entries.
        entry: its name; None: all entries.

    Raises PoolError: no such entry, none with a local file, an entry that ranks answers.
    """
    content = _parse_listing(path, "llamafactory")
    if not isinstance(content, dict) or not content:
        raise PoolError(f"{path} is not a dataset_info.json: expected {_EXPECTED['llamafactory']}.")
    if entry and entry not in content:
        from thresher.errors import did_you_mean

        raise PoolError(
            f"{path} has no entry {entry!r}. It has: "
            f"{', '.join(map(printable, list(content)[:40]))}.{did_you_mean(entry, list(content))}"
        )
    out: list[FileSpec] = []
    for name, description in content.items():
        if (entry and name != entry) or not isinstance(description, dict):
            continue
        file = description.get("file_name")
        if not isinstance(file, str) or description.get("ranking"):
            if entry:
                reason = (
                    "ranks answers, which is not instruction tuning"
                    if description.get("ranking")
                    else "has no local file_name"
                )
                raise PoolError(f"{path}: entry {printable(name)!r} {reason}.")
            continue
        target = _resolve_beside(path, file)
        if not entry and not files.is_remote(target) and not os.path.exists(target):
            continue  # LLaMA-Factory's own list names many files that few users have
        columns = json.dumps(
            {k: description[k] for k in ("formatting", "columns", "tags") if k in description},
            sort_keys=True,
        )
        for source in locate(target, images or local_folder(path), None):
            out.append(replace(source, source=name, columns=columns))
    if not out:
        names = f"It has {', '.join(map(printable, list(content)[:8]))}." if content else ""
        raise PoolError(
            f"{path} names no existing file: expected entries with a file_name that exists. {names}"
        )
    if not entry and (note := held_out_entries_note(list(dict.fromkeys(s.source for s in out)))):
        out[0] = replace(out[0], note=f"{path}: {note}")
    return out


def _resolve_beside(path: str, target: str) -> str:
    if files.is_remote(target) or os.path.isabs(target) or target.startswith("hub:"):
        return target
    folder = (
        path.rpartition("/")[0] if files.is_remote(path) else os.path.dirname(os.path.abspath(path))
    )
    return f"{folder}/{target}"


def _parse_listing(path: str, format: str | None) -> Any:
    """The content of a small YAML or JSON file; None if it is not one, or is clearly a pool."""
    if not files.is_remote(path):
        if not os.path.isfile(path) or os.path.getsize(path) > MAX_LISTING_BYTES:
            return None
    elif not path.lower().endswith((".yaml", ".yml", "dataset_info.json")):
        return None
    with files.open_file(path) as file:
        raw = file.read(MAX_LISTING_BYTES + 1)
    if len(raw) > MAX_LISTING_BYTES or b"\0" in raw[:1024]:
        return None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    start = text.lstrip()[:1]
    if start == "{":
        try:
            return parse_json(text)
        except ParseError:
            pass  # JSONL, or YAML in flow style
    named = path.lower().endswith((".yaml", ".yml"))
    if start == "[" or (start == "{" and not named) or not _MIXTURE.search(text):
        return None
    try:
        return parse_yaml(text)
    except ParseError as error:
        if format == "mixture" or named:
            raise PoolError(f"{path} is not valid YAML: {error}.") from error
        return None
