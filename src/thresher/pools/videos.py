"""Decodes a video to frames that are sampled evenly, or raises an ImageError with the reason.

Of n frames, the first and the last of the video are always among them, and the others are at equal
distances (rounded); a single frame is the middle one; a video with fewer frames gives all of them.
The whole video is decoded, since the number of frames that a file promises may be wrong. Frames are
as stored: a rotation that the file asks for is not applied.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from thresher.errors import ImageError, reason_of
from thresher.extras import require
from thresher.pools.files import is_remote
from thresher.pools.images import MAX_PIXELS, open_inside
from thresher.pools.paths import printable
from thresher.types import RowError, Video, VideoRef

DAMAGED = "bad-video"  # kind of a row's error
PART_BYTES = 2**20  # of a large file, read at three places to compare it with others


def sample_indices(total: int, frames: int) -> list[int]:
    """The numbers of at most `frames` of `total` frames.

    Arguments:
        total: number of frames of the video.
        frames: maximum number of frames to take, at least 1.

    >>> sample_indices(9, 3), sample_indices(9, 1), sample_indices(2, 8)
    ([0, 4, 8], [4], [0, 1])
    """
    if frames >= total:
        return list(range(total))
    if frames == 1:
        return [(total - 1) // 2]
    return [int(i) for i in np.linspace(0, total - 1, frames).round()]


def load(folder: str, ref: VideoRef) -> Video:
    """The frames of a video.

    Arguments:
        folder: the resolved image folder, or its address.
        ref: the video, and how many of its frames are taken.

    Raises ImageError.
    """
    with _open(folder, ref) as file:
        name = "the embedded video" if ref.data is not None else printable(ref.path)
        return decode(file, name, ref.frames)


def content_key(folder: str, ref: VideoRef) -> bytes:
    """Size and a hash of the content of a video's file, 40 bytes; of a large file, of the first,
    the middle and the last MiB. The video is not decoded: PyAV is not needed.

    Arguments:
        folder: the resolved image folder, or its address.
        ref: the video.

    Raises ImageError.
    """
    state = hashlib.sha256()
    with _open(folder, ref) as file:
        size = file.seek(0, io.SEEK_END)
        starts = [0] if size <= 3 * PART_BYTES else [0, size // 2, size - PART_BYTES]
        for start in starts:
            file.seek(start)
            state.update(file.read(3 * PART_BYTES // len(starts)))
    return size.to_bytes(8, "little") + state.digest()


def _open(folder: str, ref: VideoRef) -> BinaryIO:
    """The video's file. Raises ImageError."""
    if ref.problem:
        error = RowError.parse(ref.problem)
        raise ImageError(ref.problem, kind=error.kind)
    if ref.data is not None:
        return io.BytesIO(ref.data)
    if is_remote(folder):
        raise ImageError(
            f"{DAMAGED}: {printable(ref.path)}: videos are read from local folders only",
            kind=DAMAGED,
        )
    try:
        return open_inside(folder, ref.path)
    except ImageError as e:
        reason = str(e.message).replace("no such image in", "no such video in")
        reason = reason.replace("images are read", "videos are read")
        kind = "missing-video" if e.kind == "missing-image" else DAMAGED
        raise ImageError(f"{kind}: {reason}", kind=kind) from None


def decode(file: BinaryIO, name: str, frames: int) -> Video:
    """Evenly spaced frames of an open video. Raises ImageError.

    Arguments:
        file: the open file.
        name: for messages.
        frames: maximum number of frames.
    """
    require("video", "Reading videos")
    import av

    try:
        return _decode(av, file, frames)
    except ImageError as e:
        raise ImageError(f"{DAMAGED}: {name}: {e.message}", kind=DAMAGED) from None
    # FFmpeg's errors; what PyAV raises for streams without what it looks for
    except (av.error.FFmpegError, OSError, ValueError, IndexError, TypeError) as e:
        reason = getattr(e, "strerror", None) or reason_of(e)
        raise ImageError(
            f"{DAMAGED}: {name}: cannot be decoded as a video ({reason})", kind=DAMAGED
        ) from e


def _decode(av: Any, file: BinaryIO, frames: int) -> Video:
    total = _promised_frames(av, file)
    chosen, counted, fps = _frames_at(av, file, sample_indices(total, frames))
    if counted != total:
        total = counted
        chosen, counted, fps = _frames_at(av, file, sample_indices(total, frames))
    indices = tuple(sample_indices(total, frames))
    if not indices or counted != total or len(chosen) != len(indices):
        raise ImageError("it has no frames that can be decoded")
    if len({frame.shape for frame in chosen}) > 1:
        raise ImageError("its frames have different sizes")
    return Video(np.stack(chosen), indices, total, fps)


def _stream(container: Any) -> Any:
    if not container.streams.video:
        raise ImageError("it holds no video, as an audio file does")
    stream = container.streams.video[0]
    context = stream.codec_context
    if context.width * context.height > MAX_PIXELS:
        raise ImageError(
            f"its frames are {context.width:,} x {context.height:,} pixels, more than "
            f"{MAX_PIXELS:,} together"
        )
    return stream


def _promised_frames(av: Any, file: BinaryIO) -> int:
    """How many frames the file says it has, or how many packets it holds."""
    file.seek(0)
    with av.open(file) as container:
        stream = _stream(container)
        return stream.frames or sum(packet.size > 0 for packet in container.demux(stream))


def _frames_at(
    av: Any, file: BinaryIO, indices: Sequence[int]
) -> tuple[list[np.ndarray], int, float]:
    """The frames with these numbers, how many frames there are, and how many a second."""
    wanted = set(indices)
    out, number = [], 0
    file.seek(0)
    with av.open(file) as container:
        stream = _stream(container)
        rate = stream.average_rate or stream.guessed_rate
        for frame in container.decode(stream):
            if number in wanted:
                out.append(frame.to_ndarray(format="rgb24"))
            number += 1
    return out, number, float(rate) if rate else 24.0
