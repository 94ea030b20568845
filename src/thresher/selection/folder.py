"""A selection on disk: the folder that `select` leaves behind, and reading it again.

    subset.json | .jsonl | .parquet   the chosen records in pool order: as they stand in a pool of
                                      one JSON or JSONL file; else in LLaVA JSON, or in parquet
                                      where rows hold image bytes
    selection.parquet            row, id, digest, rank (0 = best), then each reason as a plain
                                 column; sorted by rank
    evidence.parquet             the same reasons for every row that the method saw, kept or not;
                                 sorted by row
    run.yaml                     how it came about; its `config` section replays it
    failures.jsonl               the rows that could not be used, when there are any
    duplicates.parquet           the rows that --dedup left out, and the row that stands for each
    errors.json, errors.jsonl    of a method that aims at a validation set: what the model gets
                                 wrong there, in counts and row by row

All files are written aside first. Then one rename makes them the folder's content, and they are
moved to their places, run.yaml last; a kill in between is made good by whoever opens the folder
next. So where run.yaml is, the folder is complete and of one selection. Another request's selection
is replaced only when that is asked for. Other files in the folder are left alone. Nothing here
depends on when or how often a run was interrupted, so a resumed run writes the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from thresher.errors import ConfigError, StoreError, opt
from thresher.exporters.llamafactory import INFO, remove_entries
from thresher.pools.layouts import LAYOUTS
from thresher.selection import paths as run_paths
from thresher.selection.files import (
    write_duplicates,
    write_evidence,
    write_failures,
    write_findings,
    write_selection,
    write_subset,
)
from thresher.selection.record import comparable_request, run_record
from thresher.selection.result import Outcome
from thresher.storage.atomic import fsync, temporary_path
from thresher.storage.lock import folder_lock
from thresher.storage.writable import check_folder
from thresher.text import ParseError, parse_yaml

if TYPE_CHECKING:
    from thresher.pools import Pool
    from thresher.request import RunRequest

# format of a pool -> the file that a selection of it leaves; "mixed" where no row holds image bytes
SUBSETS = {
    **{
        f"{layout}-{kind}": f"subset.{kind}"
        for layout in LAYOUTS
        if layout != "llamafactory"
        for kind in ("json", "jsonl")
    },
    # a llamafactory pool of JSONL: subset.jsonl
    **dict.fromkeys(("llamafactory", "mixed"), "subset.json"),
    **dict.fromkeys(("parquet", "datasets", "webdataset"), "subset.parquet"),
}
_FILES = ("subset.json", "subset.jsonl", "subset.parquet", "failures.jsonl")
EXTRAS = (
    "duplicates.parquet",
    "failures.jsonl",
    "errors.json",
    "errors.jsonl",
)  # written where there is something to say
RUN = "run.yaml"
NEXT = ".thresher-next"  # in the folder: a complete new selection that is about to take its place
LIST = ".list"  # in NEXT: which files are to be moved, in this order, and which removed before


def write(
    outcome: Outcome,
    pool: Pool,
    request: RunRequest | None,
    out: str | Path,
    *,
    overwrite: bool = False,
) -> None:
    """Write the selection into the folder `out`.

    Where another selection is there, `overwrite` replaces it whole; a selection by the same request
    may be replaced in any case. A kill before the new files are complete leaves the old ones; after
    that, the next command completes the exchange. Raises ConfigError (not writable, another
    selection) or StoreError (disk full).
    """
    out = check_folder(out)
    spare_the_pool(pool, out)
    with folder_lock(out, "writes a selection here"):
        complete_exchange(out)
        content = run_record(outcome, pool, request, out)
        if not overwrite:
            refuse_another(out, content["config"])
        _write(outcome, pool, content, out)


def _write(outcome: Outcome, pool: Pool, content: dict[str, Any], out: Path) -> None:
    aside = temporary_path(out)
    try:
        aside.mkdir()
        names = [
            *write_subset(outcome, pool, aside, out),
            write_selection(outcome, pool, aside),
            write_evidence(outcome, aside),
        ]
        if outcome.failures:
            names.append(write_failures(outcome, aside))
        if outcome.copies is not None:
            names.append(write_duplicates(outcome, pool, aside))
        if outcome.findings is not None:
            names += write_findings(outcome, aside)
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
        (aside / RUN).write_text(text, encoding="utf-8", errors="backslashreplace")
        stale = sorted({*SUBSETS.values(), *EXTRAS, "report.html"}.difference(names))
        plan = {"move": [*names, RUN], "remove": stale if _left_by_a_selection(out) else []}
        (aside / LIST).write_bytes(json.dumps(plan).encode())
        for name in (*names, RUN, LIST):
            fsync(aside / name)
        os.rename(aside, out / NEXT)  # from here on the new selection is what the folder holds
        complete_exchange(out)
    except (OSError, StoreError, ConfigError) as e:
        cause = e if isinstance(e, OSError) else e.__cause__
        if not isinstance(cause, OSError):
            raise
        raise StoreError(  # instead of the exporter's, which names the temporary folder
            f"The selection could not be written to {out}: {cause.strerror or cause}. The scores "
            "are stored; run again."
        ) from e
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def complete_exchange(out: Path) -> None:
    """Move the files of a complete new selection from `out`/NEXT to their places, as `write` does
    at its end.

    A killed `write` is continued: what was moved already is no longer in NEXT. Raises OSError.
    """
    new = out / NEXT
    if not new.is_dir():
        return
    if (new / LIST).exists():  # else all was moved, and the folder was being removed
        plan = json.loads((new / LIST).read_bytes())
        if (new / RUN).exists():
            (out / RUN).unlink(missing_ok=True)  # not to be seen beside new files
        if plan["remove"] and INFO not in plan["move"] and (out / INFO).is_file():
            remove_entries(out, set(SUBSETS.values()))  # entries that describe a subset which goes
        for name in plan["remove"]:
            (out / name).unlink(missing_ok=True)
        for name in plan["move"]:
            if (new / name).exists():
                os.replace(new / name, out / name)
        (new / LIST).unlink()
    shutil.rmtree(new)


def read(out: str | Path) -> dict[str, Any]:
    """The content of run.yaml in a selection folder, with paths that are right from here. Raises
    ConfigError where there is none."""
    out = Path(out)
    if (out / NEXT).is_dir():  # a writer is at it, or was killed
        with folder_lock(out, "writes a selection here"):
            try:
                complete_exchange(out)
            except OSError as e:
                raise ConfigError(
                    f"{out} is an unfinished selection: {e.strerror or e}. Run its select again."
                ) from e
    path = out / RUN
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{out} is not a finished selection: it holds no run.yaml. Give a folder that "
            "`select` wrote."
        ) from None
    except (OSError, UnicodeDecodeError, ParseError) as e:
        raise ConfigError(f"{path} cannot be read: {e}.") from e
    if (
        not isinstance(content, dict)
        or not {"pool", "method", "store", "signals"} <= content.keys()
    ):
        raise ConfigError(
            f"{path} is not a run.yaml of thresher: it lacks pool, method, store or signals."
        )
    return run_paths.located(content, out)


def refuse_another(out: str | Path, config: Mapping[str, Any]) -> None:
    """Raises ConfigError where `out` holds a selection that was made by another request than
    `config`.

    `config`: the `config` section of a run.yaml, with paths as they are stored or as they are
    given.
    """
    out = Path(out)
    if not ((out / RUN).exists() or (out / NEXT).exists()):
        return
    try:
        earlier = read(out)
    except ConfigError as e:
        raise ConfigError(
            f"{e.message} Give another folder, or {opt('overwrite', True)} to replace what is "
            "there."
        ) from e
    before, now = (
        comparable_request(earlier.get("config") or {}, out),
        comparable_request(config, out),
    )
    if before == now:
        return
    differs = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    kept = earlier.get("counts", {}).get("selected")
    rows = f", {kept:,} rows" if isinstance(kept, int) else ""
    raise ConfigError(
        f" holds another selection ({before.get('method')}, budget "
        f"{before.get('budget')}{rows}; it differs in {', '.join(differs[:6])}). Give another "
        f"folder, or {opt('overwrite', True)} to replace it.",
        option="out",
        value=out,
    )


def chosen(out: str | Path) -> tuple[np.ndarray, list[str]]:
    """Rows int64 [k] of the selection in `out`, best first, and their digests in hexadecimal.
    Raises ConfigError."""
    path = Path(out) / "selection.parquet"
    try:
        table = pq.read_table(path, columns=["row", "digest"])
    except (OSError, pa.ArrowException) as e:
        raise ConfigError(f"{path} cannot be read: {str(e).rstrip('.')}. Select again.") from e
    return table["row"].to_numpy(), table["digest"].to_pylist()


def spare_the_selection(out: str | Path, target: Path) -> None:
    """Raises ConfigError where `target`, to be written, is one of the files that the selection in
    `out` consists of."""
    own = {
        "run.yaml",
        "selection.parquet",
        "evidence.parquet",
        "report.html",
        *SUBSETS.values(),
        *EXTRAS,
    }
    if target.name in own and target.exists() and target.resolve().parent == Path(out).resolve():
        raise ConfigError(
            " is a file of the selection itself, which must stay. Give another file.",
            option="out",
            value=target,
        )


def spare_the_pool(pool: Pool, out: Path) -> None:
    """Raises ConfigError where a selection in the folder `out` would overwrite a file of the pool,
    or a subset that none left."""
    for name in _FILES:
        if (out / name).exists() and any(
            os.path.exists(s.uri) and (out / name).samefile(s.uri) for s in pool.file_specs
        ):
            raise ConfigError(
                f" holds the pool itself ({name}), which must stay. Give another folder.",
                option="out",
                value=out,
            )
    from thresher import exporters

    mine = "subset" + exporters.default(pool)[1]
    if (out / mine).exists() and not _left_by_a_selection(out):
        raise ConfigError(
            f" holds a {mine} that no selection of thresher left there, and that would "
            "be lost. Move it, or give another folder.",
            option="out",
            value=out,
        )


def _left_by_a_selection(out: Path) -> bool:
    """selection.parquet tells one also where a kill left it without its run.yaml."""
    return any((out / name).exists() for name in ("run.yaml", "selection.parquet"))
