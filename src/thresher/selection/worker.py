"""One worker process of `--devices`: reads a request from stdin, scores the rows that are still
missing, and exits. The first line of stdin is JSON, the request and when its command began
({"request": {…}, "started": ns}); the end of stdin means that the process that started it asks it
to stop, or has died.

Writes scores into the store only.
"""

from __future__ import annotations

import _thread
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from thresher.errors import ThresherError
from thresher.request import RunRequest, fields_of
from thresher.request.spelling import as_flag
from thresher.selection.config import combine

if TYPE_CHECKING:
    from thresher.console.progress import Progress

STOPPED_AFTER = 60.0  # seconds to store what is scored, once the starting process is dead
AGAIN = 3.0  # seconds between two interrupts


def read_request(values: Mapping[str, Any]) -> RunRequest:
    """The request from what `to_mapping` gave."""
    known = fields_of(RunRequest)
    return combine({}, {k: tuple(v) if known[k].type is tuple else v for k, v in values.items()})


def score(
    request: RunRequest,
    progress: Progress | None = None,
    on_stored: Callable[[int], None] | None = None,
    processes: int = 1,
    started: int | None = None,
) -> None:
    """Score the missing rows of the request's columns, as many as other processes leave.

    Arguments:
        request: whose columns are needed.
        progress: receives progress reports; None: none.
        on_stored: called with the number of rows whenever some were stored.
        processes: number of processes that were started to score these rows.
        started: when the command began, `time.time_ns()`; None: now.
    """
    from thresher.selection import iterate
    from thresher.selection.opening import prepare

    job = prepare(request, lambda text: None, out=False, progress=False)
    context = replace(
        job.context,
        progress=progress,
        on_stored=on_stored,
        processes=processes,
        started=job.context.started if started is None else started,
    )
    iterate.select(job.task, context)


def _end_with_stdin() -> None:
    """Interrupt the main thread as Ctrl-C does, so that it stores what it has scored."""
    sys.stdin.read()
    for _ in range(int(STOPPED_AFTER / AGAIN)):  # an import may swallow the first one
        _thread.interrupt_main()
        time.sleep(AGAIN)
    os._exit(1)


def main() -> int:
    # also where the command runs in the background, where SIGINT is ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        given = json.loads(sys.stdin.readline())
        request = read_request(given["request"])
        threading.Thread(target=_end_with_stdin, daemon=True).start()
        score(request, started=given["started"])
    except KeyboardInterrupt:
        return 0
    except ThresherError as error:
        sys.stderr.write(f"{error.spelled(as_flag)}\n")
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the thread that waits for stdin must not delay the end
