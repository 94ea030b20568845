"""Writes rows as a LLaVA file, with one PNG per distinct scene and the hidden labels in a separate
file. Used by pool.py and evaluation.py."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from thresher.demo.render import render_fixed
from thresher.demo.scenes import Scene
from thresher.demo.styles import Turn


@dataclass(frozen=True)
class Row:
    """One sample before it is written: source, scenes (one image each, in order) and turns."""

    source: str
    scenes: tuple[Scene, ...]
    turns: tuple[Turn, ...]

    @property
    def noisy(self) -> bool:
        return any(t.noisy for t in self.turns)


def image_name(scene: Scene) -> str:
    return f"images/{scene.digest().hex()[:12]}.png"


@dataclass
class ImageWriter:
    """Writes each distinct scene once, with a rendering that depends only on the scene."""

    folder: Path
    written: dict[str, bool] = field(default_factory=dict)

    def write(self, scene: Scene) -> str:
        name = image_name(scene)
        if name not in self.written:
            Image.fromarray(render_fixed(scene)).save(self.folder / name, compress_level=1)
            self.written[name] = True
        return name


def _llava_row(identity: str, row: Row, images: ImageWriter) -> dict[str, object]:
    """The LLaVA record of a row. Several images are a list under "image"; a text-only row has no
    "image"."""
    names = [images.write(s) for s in row.scenes]
    conversations = []
    for k, turn in enumerate(row.turns):
        placeholders = "<image>\n" * len(names) if k == 0 else ""
        conversations += [
            {"from": "human", "value": placeholders + turn.question},
            {"from": "gpt", "value": turn.answer},
        ]
    record: dict[str, object] = {"id": identity}
    if names:
        record["image"] = names[0] if len(names) == 1 else names
    return record | {"data_source": row.source, "conversations": conversations}


def _hidden_label(identity: str, row: Row) -> dict[str, object]:
    """The hidden labels of a row: kind and style of the first turn, all kinds, whether any answer
    is wrong, candidates."""
    first = row.turns[0]
    return {
        "id": identity,
        "data_source": row.source,
        "kind": first.kind,
        "kinds": [t.kind for t in row.turns],
        "style": first.style,
        "noisy": row.noisy,
        "candidates": list(first.candidates),
        "scenes": [s.key for s in row.scenes],
    }


def write_rows(folder: Path, stem: str, labels: str, prefix: str, rows: Sequence[Row]) -> Path:
    """Write rows as LLaVA JSON, their images, and their hidden labels as JSON lines.

    Arguments:
        folder: where to write.
        stem: file name of the JSON file, without extension.
        labels: file name of the hidden labels.
        prefix: of the rows' ids.
        rows: the rows.

    Returns the path of the JSON file.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images = ImageWriter(folder)
    identities = [f"{prefix}-{k:06d}" for k in range(len(rows))]
    visible = [_llava_row(i, r, images) for i, r in zip(identities, rows, strict=True)]
    path = folder / f"{stem}.json"
    path.write_text(json.dumps(visible, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    hidden = [json.dumps(_hidden_label(i, r)) + "\n" for i, r in zip(identities, rows, strict=True)]
    (folder / labels).write_text("".join(hidden), encoding="utf-8")
    return path
