"""LLaMA-Factory: a ShareGPT-style JSON file with role/content messages, and its dataset_info.json
entry.

`path`: NAME.json (or .jsonl), or a folder, which then gets FOLDER/FOLDER.json. An existing
dataset_info.json keeps its other entries. Fields have one type each (`fields.py`). Rows that
LLaMA-Factory skips are counted.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ConfigError
from thresher.exporters import raw, target
from thresher.exporters.chats import alternates, messages
from thresher.exporters.fields import Fields
from thresher.exporters.images import ExportImages
from thresher.exporters.options import Options
from thresher.exporters.rows import Rows, to_json
from thresher.text import parse_json

if TYPE_CHECKING:
    from thresher.pools import Pool

NATIVE = ("videos", "audios", "tools")
INFO = "dataset_info.json"
TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}


def export(
    pool: Pool, rows: np.ndarray, path: Path, format: str, options: Options
) -> tuple[str, ...]:
    """See `thresher.exporters.export`. `format`: "llamafactory"."""
    if path.suffix.lower() not in (".json", ".jsonl"):
        path = path / f"{path.name}.json"
    path = target.file(path)
    if path.name == INFO:
        raise ConfigError(f"{path}: {INFO} is written beside the rows. Give another name for them.")
    target.refuse_overwrite(pool, path)
    info = read_dataset_info(path.with_name(INFO))
    stream, images = Rows(pool, rows), ExportImages(pool, path, options)
    fields = Fields(stream, NATIVE)
    used: dict[str, None] = {}

    def records() -> Iterator[bytes]:
        for row in stream:
            turns, extra_json = messages(row, stream)
            if not alternates(turns):
                stream.lost["user and assistant do not alternate: LLaMA-Factory skips the row"] += 1
            if not row.aligned:
                stream.lost[
                    ("the numbers of <image> and of images differ: LLaMA-Factory stops there")
                ] += 1
            columns = fields.split(row, extra_json)
            video = row.fields.get("video")
            if isinstance(video, str) and video and "videos" not in columns:
                columns["videos"] = [video]
            for name in NATIVE:
                if columns.get(name):
                    used[name] = None
            record: dict[str, Any] = {
                "messages": turns,
                "images": [images.name(i) for i in row.images],
            }
            yield to_json({**record, **columns}, stream.lost)

    pieces = raw.jsonl if path.suffix.lower() == ".jsonl" else raw.json_list
    target.write(path, pieces(records()))
    columns = {"messages": "messages", "images": "images"} | {
        name: name for name in NATIVE if name in used
    }
    info[path.stem] = {
        "file_name": path.name,
        "formatting": "sharegpt",
        "columns": columns,
        "tags": TAGS,
    }
    _write_dataset_info(path.with_name(INFO), info)
    return (
        *stream.loss_notes("llamafactory"),
        *images.notes(),
        f"{path.with_name(INFO)} names it {path.stem!r}: llamafactory-cli train … "
        f"dataset={path.stem} dataset_dir={path.parent}"
        f" media_dir={_media(pool, images, options)}",
    )


def export_as_declared(pool: Pool, rows: np.ndarray, path: Path) -> tuple[str, ...]:
    """Copy `rows` of a pool described by a dataset_info.json, with the same description.

    The pool is one JSON or JSONL file (`exporters.declared`).

    Arguments:
        pool: the pool.
        rows: int64 [k], pool rows in the order of the export.
        path: the file to write.
    """
    path = target.file(path)
    pieces = raw.jsonl if raw.is_lines("llamafactory", path) else raw.json_list
    info = read_dataset_info(path.with_name(INFO))
    copies = raw.Copies(pool, rows)
    target.write(path, pieces(copies))
    name = pool.file_specs[0].source
    if name in info and info[name].get("file_name") != path.name:
        name = path.stem
    info[name] = {"file_name": path.name, **json.loads(pool.pool_files[0].columns)}
    _write_dataset_info(path.with_name(INFO), info)
    return copies.notes()


def remove_entries(folder: Path, files: Container[str]) -> None:
    """Remove the entries of `files` from the folder's dataset_info.json; deletes it if it is then
    empty.

    Arguments:
        folder: of the dataset_info.json.
        files: file names.
    """
    path = folder / INFO
    info = read_dataset_info(path)
    kept = {
        k: v for k, v in info.items() if not (isinstance(v, dict) and v.get("file_name") in files)
    }
    if len(kept) == len(info):
        return
    if kept:
        _write_dataset_info(path, kept)
    else:
        path.unlink()


def _write_dataset_info(path: Path, info: dict[str, Any]) -> None:
    target.write(
        path,
        [json.dumps(info, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass"), b"\n"],
    )


def _media(pool: Pool, images: ExportImages, options: Options) -> str:
    if options.relative_to is not None:
        return options.relative_to
    return str(images.base) if images.written else pool.images_named


def read_dataset_info(path: Path) -> dict[str, Any]:
    """The entries of a dataset_info.json; {} if there is none. Raises ConfigError."""
    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} exists and cannot be read: {error}. Repair it, or give another folder."
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} exists and is not a JSON object. Repair it, or give another folder."
        )
    return content
