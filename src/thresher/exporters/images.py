"""How exported records refer to images: by path or by bytes.

For formats that use paths, an embedded image is written to the folder `NAME_images` beside the
export NAME.json, named by its content hash; paths are then relative to the export's folder.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.errors import ImageError
from thresher.exporters.options import Options
from thresher.exporters.target import write
from thresher.pools.embedded import extension
from thresher.pools.files import is_remote
from thresher.pools.paths import unsafe_path_reason
from thresher.types import ImageRef

if TYPE_CHECKING:
    from thresher.pools import Pool


class ExportImages:
    """The images of one export.

    Arguments:
        pool: where they are loaded from.
        path: the file that is exported to; images are written to a folder beside it.
        options: of the export.
    """

    def __init__(self, pool: Pool, path: Path, options: Options) -> None:
        self.pool, self.options = pool, options
        self.folder = path.parent / f"{path.name.partition('.')[0]}_images"
        self.base = path.parent
        self.root = pool.image_root
        self.written: dict[str, None] = {}
        self.unread = 0
        self.first_unread = ""
        embedded = pool.index.embedded
        # Image folder and export folder cannot both be the base of relative paths.
        self.absolute = options.absolute or (
            options.relative_to is None and bool(embedded.any()) and not bool(embedded.all())
        )

    def name(self, image: ImageRef) -> str:
        """The path of an image in the export; writes its bytes to a file if it has none."""
        if image.data is None:
            if unsafe_path_reason(image.path):
                return image.path  # never readable: as the user wrote it
            if self.absolute:
                return (
                    f"{self.root}/{image.path}"
                    if is_remote(self.root)
                    else os.path.join(self.root, image.path)
                )
            if self.options.relative_to is not None and not is_remote(self.root):
                return os.path.relpath(
                    os.path.join(self.root, image.path), self.options.relative_to
                )
            return image.path
        name = f"{hashlib.sha256(image.data).hexdigest()[:32]}.{extension(image.data)}"
        if name not in self.written:
            self.written[name] = None
            target = self.folder / name
            if not (target.exists() and target.stat().st_size == len(image.data)):
                write(target, [image.data])
        if self.absolute:
            return str((self.folder / name).absolute())
        if self.options.relative_to is not None:
            return os.path.relpath((self.folder / name).absolute(), self.options.relative_to)
        return f"{self.folder.name}/{name}"

    def content(self, image: ImageRef) -> bytes | None:
        """The bytes of an image; None, and counted, if it cannot be read."""
        if image.data is not None:
            return image.data
        try:
            return self.pool.image_bytes(image)
        except ImageError as error:
            self.unread += 1
            self.first_unread = self.first_unread or str(error)
            return None

    def contents(self, images: list[ImageRef]) -> list[bytes] | None:
        """The bytes of all images of a row; None if one of them cannot be read."""
        found = [self.content(image) for image in images]
        return None if any(f is None for f in found) else [f for f in found if f is not None]

    def notes(self) -> tuple[str, ...]:
        """Notes for the user about the images."""
        out: list[str] = []
        if self.written:
            base = "the current folder" if str(self.base) == "." else self.base
            start = (
                ""
                if self.absolute or self.options.relative_to
                else (f"; image paths start from {base}")
            )
            out.append(
                f"{len(self.written):,} embedded images are written to {self.folder}{start}."
            )
        if self.unread:
            out.append(
                f"{self.unread:,} images could not be read and are named by their path only; the "
                f"first: {self.first_unread}."
            )
        return tuple(out)
