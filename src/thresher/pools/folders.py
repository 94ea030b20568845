"""A folder as a pool: which of its files are read, and notes on the others.

The output folder of `select` is read as its subset; a data set that `datasets` saved or cached, as
its Arrow files. In any other folder all files of a known format are read: those of the folder
itself or, if it has none, all below it. Files of a test or validation split are left out. Lists
folders and reads the small files that describe them.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from thresher.errors import PoolError
from thresher.pools import files as pool_files
from thresher.pools import hub, listings
from thresher.pools.file_spec import FileSpec, Locate, local_folder
from thresher.pools.image_formats import EXTENSIONS
from thresher.pools.source_names import SUFFIXES
from thresher.pools.splits import HELD_OUT, split_of, summarize_names, training_files
from thresher.text import ParseError, parse_json, parse_yaml

# of `datasets`
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json")
# Files that a pool's folder may contain besides pool files without a note: images, documents,
# code.
_IGNORED_SUFFIXES = EXTENSIONS | frozenset(
    (
        *(
            "heic",
            "heif",
            "svg",
            "jxl",
            "md",
            "rst",
            "html",
            "htm",
            "css",
            "js",
            "pdf",
            "py",
            "ipynb",
            "sh",
            "toml",
            "cfg",
        ),
        *(
            "ini",
            "yaml",
            "yml",
            "lock",
            "log",
            "bib",
            "cff",
            "sha256",
            "md5",
            "sum",
            "part",
            "tmp",
            "bak",
            "crc",
            "idx",
        ),
    )
)
_IGNORED_TEXT_FILES = re.compile(
    r"(?:readme|licen[cs]e|requirements|notice|citation|changelog|authors)", re.IGNORECASE
)
_MAX_README_CHARS = 1 << 20  # characters of a README.md
_MAX_LISTED_ENTRIES = 500  # entries of a subfolder that are checked for pool files, for a note


def folder_files(
    name: str, images: str | None, format: str | None, locate: Locate
) -> list[FileSpec]:
    """The files of a folder. The first one's `note` says what was left out. Raises PoolError if
    there is nothing to read.

    Arguments:
        name: path of the folder.
        images: image folder of all files; None: each file's own folder.
        format: a name of `readers.FORMATS`; None: detected.
        locate: resolves the entries of a listing.
    """
    entries = sorted(os.listdir(name))
    # an output folder of `select`: read its subset, not its tables
    if "run.yaml" in entries and "selection.parquet" in entries:
        subset = [f for f in entries if f.startswith("subset.")]
        if subset and (described := _subset_with_dataset_info(name, entries, images, locate)):
            return described
        if subset:
            return [
                s
                for f in subset
                for s in resolve_file(os.path.join(name, f), images, format, locate)
            ]
    if described_files := _self_describing_files(name, entries, images, locate):
        return described_files
    files, others = _pool_and_other_files(name, entries)
    deep = not files
    if deep:
        files, others = _files_below(name)
        files = [f for f in files if not _is_selection_table(os.path.join(name, f))]
    if not files:
        other_files = (
            f" It contains {summarize_names(others)}: unpack or convert them." if others else ""
        )
        raise PoolError(
            f"{name} is a folder with no file of a known format "
            f"({', '.join(SUFFIXES)}).{other_files} "
            "Give the file itself, or another folder."
        )
    notes = []
    declared = _declared_splits(name)
    files, held_out = training_files(files, declared)
    if held_out:
        description = (
            "is a test or validation split"
            if len(held_out) == 1
            else ("are test or validation splits")
        )
        notes.append(
            f"{name}: {summarize_names(held_out)} {description}, not read. Give its own path to "
            f"read it."
        )
    elif all((declared.get(f) or split_of(f)) in HELD_OUT for f in files):
        notes.append(f"{name} contains only test or validation splits; they are read.")
    if others:
        notes.append(f"{name}: ignored files of other kinds: {summarize_names(others)}.")
    if not deep and (under := _subfolders_with_files(name, entries)):
        notes.append(
            f"{name}: files in its folders {summarize_names(under)} are not read, because it has "
            f"files of "
            "its own."
        )
    out: list[FileSpec] = []
    for file in dict.fromkeys(files):
        path = os.path.join(name, file)
        out += resolve_file(path, images, format, locate)
    return [replace(out[0], note=" ".join([*notes, out[0].note]).strip()), *out[1:]] if out else out


def resolve_file(
    name: str, images: str | None, format: str | None, locate: Locate
) -> list[FileSpec]:
    """The files of a folder, the files that a listing names, or the file itself.

    `source` may still be "". `locate`: resolves the entries of a listing.

    Arguments:
        name: path of a file or folder.
        images: image folder of all files; None: each file's own folder.
        format: a name of `readers.FORMATS`; None: detected.
        locate: resolves the entries of a listing.
    """
    if not pool_files.is_remote(name) and os.path.isdir(name):
        return folder_files(name, images, format, locate)
    if format in (None, "mixture", "llamafactory"):
        found = listings.read_listing(name, images, format, locate)
        if found is not None:
            return found
    uri = name if pool_files.is_remote(name) else os.path.abspath(name)
    return [FileSpec(uri, "", images or local_folder(name), format)]


def held_out_files(spec: str, splits: Sequence[str]) -> tuple[list[str], str]:
    """The files of a folder to read as evaluation data, and their split; `spec` itself and "" if it
    has no such split.

    Arguments:
        spec: a path.
        splits: "test" and "validation" in order of preference. A folder is divided only if it
            has other files too.
    """
    if not os.path.isdir(spec):
        return [spec], ""
    entries = sorted(os.listdir(spec))
    if "dataset_dict.json" in entries:
        files = [f for f in entries if os.path.isdir(os.path.join(spec, f))]
    elif "dataset_info.json" in entries or "state.json" in entries or "run.yaml" in entries:
        return [spec], ""
    else:
        files = _pool_and_other_files(spec, entries)[0] or _files_below(spec)[0]
    declared = _declared_splits(spec)
    for split in splits:
        found = [f for f in files if (declared.get(f) or split_of(f)) == split]
        if found and len(found) < len(files):
            return [os.path.join(spec, f) for f in found], split
    return [spec], ""


def _declared_splits(name: str) -> dict[str, str]:
    """File -> split, as declared by the README.md of a hub data set (`configs`, `data_files`)."""
    try:
        with open(os.path.join(name, "README.md"), encoding="utf-8-sig", errors="replace") as file:
            text = file.read(_MAX_README_CHARS)
        metadata = (
            parse_yaml(text.split("\n---", 1)[0].removeprefix("---"))
            if text.startswith("---\n")
            else None
        )
    except (OSError, ParseError):
        return {}
    out: dict[str, str] = {}
    configs = metadata.get("configs") if isinstance(metadata, dict) else None
    for config in configs if isinstance(configs, list) else []:
        listed = config.get("data_files") if isinstance(config, dict) else None
        for entry in listed if isinstance(listed, list) else []:
            if not isinstance(entry, dict) or not isinstance(entry.get("split"), str):
                continue
            split = split_of(entry["split"]) or "train"
            paths = entry.get("path")
            for pattern in paths if isinstance(paths, list) else [paths]:
                if (
                    not isinstance(pattern, str)
                    or os.path.isabs(pattern)
                    or ".." in pattern.split("/")
                ):
                    continue
                for found in glob.glob(os.path.join(glob.escape(name), pattern), recursive=True):
                    if out.setdefault(os.path.relpath(found, name), split) != "train":
                        out[os.path.relpath(found, name)] = (
                            split  # training wins if a file is in two splits
                        )
    return out


def _subset_with_dataset_info(
    name: str, names: list[str], images: str | None, locate: Locate
) -> list[FileSpec]:
    """The subset of a selection, if a dataset_info.json in its folder declares its fields."""
    if "dataset_info.json" not in names:
        return []
    info = os.path.join(name, "dataset_info.json")
    try:
        with open(info, encoding="utf-8-sig") as file:
            entries = parse_json(file.read(listings.MAX_LISTING_BYTES))
    except (OSError, ValueError):
        return []  # not written by thresher: the subset is read by its content
    found: list[FileSpec] = []
    for entry, description in entries.items() if isinstance(entries, dict) else ():
        target = description.get("file_name") if isinstance(description, dict) else None
        if target in names and str(target).startswith("subset."):
            with listings.guard_recursion(info):
                found += listings.read_dataset_info(info, images, locate, entry)
    return found


def _self_describing_files(
    name: str, names: Sequence[str], images: str | None, locate: Locate
) -> list[FileSpec] | None:
    """The files of a folder with metadata of `datasets` or LLaMA-Factory; None for any other."""
    if "state.json" in names or "dataset_dict.json" in names:
        return hub.saved_dataset_files(name, images)
    if "dataset_info.json" not in names:
        return None
    info = os.path.join(name, "dataset_info.json")
    description = listings.datasets_library_info(info)
    if description is None:
        with listings.guard_recursion(info):
            return listings.read_dataset_info(info, images, locate)
    return (
        hub.cached_dataset_files(name, description, images)
        if any(f.endswith(".arrow") for f in names)
        else None
    )


def _pool_and_other_files(
    name: str, names: Sequence[str], prefix: str = ""
) -> tuple[list[str], list[str]]:
    """(pool files, files of other kinds that may have been intended) among the entries of a
    folder."""
    files, others = [], []
    for base in names:
        if (
            base.startswith(".")
            or base in _DESCRIPTIONS
            or not os.path.isfile(os.path.join(name, base))
        ):
            continue
        suffix = base.lower().rpartition(".")[2] if "." in base else ""
        if base.lower().endswith(SUFFIXES):
            files.append(prefix + base)
        elif (
            suffix
            and suffix not in _IGNORED_SUFFIXES
            and not (suffix == "txt" and _IGNORED_TEXT_FILES.match(base))
        ):
            others.append(prefix + base)
    return files, others


def _files_below(name: str) -> tuple[list[str], list[str]]:
    """The same for everything below a folder, and the `datasets` folders in it; paths relative to
    `name`, sorted.
    """
    files: list[str] = []
    others: list[str] = []
    seen = {os.path.realpath(name)}
    for path, folders, names in os.walk(name, followlinks=True):
        below = os.path.relpath(path, name)
        prefix = "" if below == "." else below + "/"
        if prefix and _is_datasets_folder(names):
            files.append(below)
            folders.clear()
            continue
        folders[:] = sorted(
            f
            for f in folders
            if not f.startswith(".") and _is_new_folder(os.path.join(path, f), seen)
        )
        found, other = _pool_and_other_files(path, names, prefix)
        files += found
        others += other
    return sorted(files), sorted(others)


def _is_datasets_folder(names: Sequence[str]) -> bool:
    described = (
        "state.json" in names or "dataset_dict.json" in names or "dataset_info.json" in names
    )
    return described and ("dataset_dict.json" in names or any(f.endswith(".arrow") for f in names))


def _is_new_folder(path: str, seen: set[str]) -> bool:
    """Whether a folder was not visited before, through any links."""
    real = os.path.realpath(path)
    if real in seen:
        return False
    seen.add(real)
    return True


def _subfolders_with_files(name: str, names: Sequence[str]) -> list[str]:
    return [
        f"{f}/"
        for f in names
        if not f.startswith(".") and any(_are_pool_files(os.path.join(name, f)))
    ]


def _are_pool_files(path: str) -> Iterator[bool]:
    """Whether each of the first entries of a folder is a pool file."""
    if os.path.isdir(path):
        try:
            with os.scandir(path) as entries:
                for _, entry in zip(range(_MAX_LISTED_ENTRIES), entries, strict=False):
                    yield entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".")
        except OSError:
            return


def _is_selection_table(path: str) -> bool:
    """Whether `select` wrote the file beside a subset, so that it is not a pool."""
    folder, base = os.path.split(path)
    return not base.startswith("subset.") and os.path.isfile(
        os.path.join(folder, "selection.parquet")
    )
