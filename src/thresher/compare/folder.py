"""Which comparison an output folder contains: that of one pool and one evaluation set.

Reads compare.json of the folder; writes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

from thresher.compare.cells import Job, identities_of
from thresher.errors import ConfigError
from thresher.selection.owner import COMPARISON, refuse_selection

NAMES = {"pool": "pool", "eval": "evaluation set"}


def refuse_other_contents(out: str | Path, job: Job) -> None:
    """Raise ConfigError if the folder contains a selection, a comparison of another pool or
    evaluation set, or a compare.json that no comparison wrote.

    A compare.json of an earlier version does not identify its pool, and is accepted.

    Arguments:
        out: the folder; need not exist.
        job: the comparison to write there.
    """
    out = Path(out)
    refuse_selection(out)
    try:
        found = json.loads((out / COMPARISON).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as e:
        raise _foreign(out, f"cannot be read ({e})") from e
    if not isinstance(found, dict) or "cells" not in found:
        raise _foreign(out, "no comparison of thresher wrote")
    before, now = found.get("fingerprints"), identities_of(job)
    if not isinstance(before, dict):
        return
    given = {"pool": job.pool.path, "eval": job.test.path}
    differs = [key for key in NAMES if before.get(key) != now[key]]
    if differs:
        held = " and ".join(f"{NAMES[key]} {found.get(key)}" for key in differs)
        asked = " and ".join(f"{NAMES[key]} {given[key]}" for key in differs)
        changed = (
            ": its rows have changed since"
            if all(str(found.get(key)) == str(given[key]) for key in differs)
            else ""
        )
        raise ConfigError(
            f" holds the comparison of another {' and '.join(NAMES[key] for key in differs)} "
            f"(it is of {held}; given: {asked}{changed}). Give another folder.",
            option="out",
            value=out,
        )


def _foreign(out: Path, why: str) -> ConfigError:
    return ConfigError(
        f" holds a {COMPARISON} that {why}, and that would be lost. Move it, or give another "
        "folder.",
        option="out",
        value=out,
    )
