"""Reads one large JSON or JSONL file with several processes, each a span of it; the result is that
of one process.

A span starts where a record seems to start (`records.find_record_start`). That is checked: the
reader of the preceding span must stop exactly there; otherwise, and wherever a span fails, this
process reads the rest. The others are new Python processes (not forks: this process may hold a
model, threads and a GPU), which get their input on standard input.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from thresher.cores import usable_cores
from thresher.errors import ThresherError
from thresher.pools import records
from thresher.pools.block import Advance, Block, BlockImages, read_block
from thresher.pools.layouts import make_converter
from thresher.pools.pool_file import PoolFile
from thresher.pools.readers import RecordReader
from thresher.pools.records import Span

MIN_PARALLEL_BYTES = 96 << 20  # bytes: smaller files are read before another process has started
MAX_PROCESSES = 4  # processes
_RUN = """import sys
sys.path[:] = {path!r}
from thresher.pools.workers import worker_main
worker_main()"""


def plan_spans(file: BinaryIO, container: str, size: int) -> list[Span]:
    """The spans to read a file in, in order; one for a small file or on a single processor.

    Arguments:
        file: the open file.
        container: of the file; only JSON and JSONL are divided.
        size: of the file in bytes.
    """
    count = min(
        usable_cores(),
        MAX_PROCESSES,
        size // MIN_PARALLEL_BYTES + 1 if size >= MIN_PARALLEL_BYTES else 1,
    )
    starts = [0]
    if container in ("json", "jsonl"):
        for k in range(1, count):
            start = records.find_record_start(file, container, size * k // count)
            if start > starts[-1]:
                starts.append(start)
    return [Span(start, stop) for start, stop in zip(starts, [*starts[1:], -1], strict=True)]


def read_spans(
    file: PoolFile,
    reader: RecordReader,
    source: str,
    images: Callable[[], BlockImages],
    prefix: str,
    spans: list[Span],
    advance: Advance | None,
) -> list[Block]:
    """The blocks of a file's spans. Raises PoolError.

    Arguments:
        file: the file and its layout.
        reader: of the file, for this process.
        source: of the rows without their own.
        images: creates an empty list of images for a block.
        prefix: of image paths.
        spans: parts of the file, in order, at least one; the others are read by new processes.
        advance: called with the number of rows read; None: not called.
    """
    convert = make_converter(file.layout, chosen=file.chosen)
    root = images().root
    processes = [_start(file, source, root, prefix, span) for span in spans[1:]]
    try:
        blocks = [read_block(reader, convert, source, images(), spans[0], advance)]
        for span, process in zip(spans[1:], processes, strict=True):
            found = _result(process)
            if found is None or blocks[-1].reached != span.start or found.numbered:
                # a wrong guess, a failed process, or a problem text with a line number relative to
                # the span
                rest = Span() if found is None or found.numbered else Span(blocks[-1].reached)
                if blocks[-1].reached < 0 and rest.start < 0:
                    return blocks
                if rest.start == 0:
                    return [read_block(reader, convert, source, images(), Span(), None)]
                return [*blocks, read_block(reader, convert, source, images(), rest, advance)]
            if advance is not None:
                advance(len(found))
            blocks.append(found)
        return blocks
    finally:
        for process in processes:
            if process is not None and process.returncode is None:  # still running
                process.kill()
                process.communicate()


def worker_main() -> None:
    """Entry point of a worker process: a span on standard input, its block on standard output."""
    file: PoolFile
    file, source, root, prefix, span = pickle.load(sys.stdin.buffer)
    result: Any
    try:
        with open(file.uri, "rb") as opened:
            convert = make_converter(file.layout, chosen=file.chosen)
            result = read_block(
                file.reader(opened), convert, source, BlockImages(root, prefix), span
            )
    # the first process runs into it too, and reports it with the right numbers
    except (ThresherError, OSError) as error:
        result = str(error)
    pickle.dump(result, sys.stdout.buffer, protocol=5)


def _start(
    file: PoolFile, source: str, root: str, prefix: str, span: Span
) -> subprocess.Popen[bytes] | None:
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(pickle.dumps((file, source, root, prefix, span)))
        process.stdin.close()
        process.stdin = None  # communicate() must not flush it
    except OSError:
        return None
    return process


def _result(process: subprocess.Popen[bytes] | None) -> Block | None:
    if process is None:
        return None
    output, _ = process.communicate()
    if process.returncode != 0 or not output:
        return None
    result = pickle.loads(output)
    return result if isinstance(result, Block) else None
