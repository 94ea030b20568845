"""A selection on disk: writing the folder of a selection, and reading it.

    subset.json | .jsonl | .parquet   the chosen records in pool order: unchanged for a pool of one
                                      JSON or JSONL file; otherwise in LLaVA JSON, or in parquet
                                      if rows contain image bytes
    selection.parquet            row, id, digest, rank (0 = best), then each reason as a plain
                                 column; sorted by rank
    evidence.parquet             the same reasons for every row that the method saw, kept or not;
                                 sorted by row
    run.yaml                     how it was made; its `config` section repeats it
    failures.jsonl               the rows that could not be used, when there are any
    duplicates.parquet           the rows that --dedup left out, and the row that represents each
    errors.json, errors.jsonl    of a method with a validation set: what the model gets wrong
                                 there, in counts and row by row

All files are first written to a temporary folder. One rename makes them the folder's content, and
then they are moved to their places, run.yaml last; if the process is killed in between, the next
one that opens the folder completes the move. So a folder with a run.yaml is complete and contains
one selection. The selection of another request is replaced only on demand. Other files in the
folder are not changed. Nothing depends on when or how often a run was interrupted, so a resumed run
writes the same bytes.
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
from thresher.request.spelling import as_flag
from thresher.selection import paths as run_paths
from thresher.selection.files import (
    write_duplicates,
    write_evidence,
    write_failures,
    write_findings,
    write_selection,
    write_subset,
)
from thresher.selection.owner import NEXT, refuse_comparison
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
)  # written if there is anything to report
RUN = "run.yaml"
LIST = ".list"  # in NEXT: which files are moved, in this order, and which are removed first


def write(
    outcome: Outcome,
    pool: Pool,
    request: RunRequest | None,
    out: str | Path,
    *,
    overwrite: bool = False,
    cost: Mapping[str, Any] | None = None,
) -> None:
    """Write a selection. If the process is killed before the new files are complete, the old ones
    stay; after that, the next command completes the exchange.

    `overwrite` replaces the selection of another request; one of the same request is always
    replaced. If the process is killed before the new files are complete, the old ones stay; after
    that, the next command completes the exchange. Raises ConfigError (not writable, another
    selection) or StoreError (disk full).

    Arguments:
        outcome: the selection.
        pool: that it was made from.
        request: of the run.
        out: the folder.
        overwrite: replace the selection of another request; one of the same request is always
            replaced.
        cost: what the run was predicted to take and took (`cost_record`); None: it scored nothing,
            and what the folder says of an earlier run of the same request remains.
    """
    out = check_folder(out)
    refuse_to_overwrite_others(pool, out)
    with folder_lock(out, "writes a selection here"):
        complete_exchange(out)
        content = run_record(outcome, pool, request, out, cost)
        if not overwrite:
            refuse_other_request(out, content["config"], out)
            if cost is None and (earlier := _earlier_cost(out)):
                content = run_record(outcome, pool, request, out, earlier)
        _write(outcome, pool, content, out)


def _earlier_cost(out: Path) -> Mapping[str, Any] | None:
    """The section `cost` of the selection in `out`, if there is one that can be read."""
    if not (out / RUN).exists():
        return None
    cost = read(out).get("cost")
    return cost if isinstance(cost, dict) else None


def _write(outcome: Outcome, pool: Pool, content: dict[str, Any], out: Path) -> None:
    temporary = temporary_path(out)
    try:
        temporary.mkdir()
        subset, found = write_subset(outcome, pool, temporary, out)
        notes = [note for note in found if note not in outcome.notes]
        outcome.notes += notes
        content["notes"] += [note.spelled(as_flag) for note in notes]
        content["note_kinds"] += [note.kind for note in notes]
        names = [
            *subset,
            write_selection(outcome, pool, temporary),
            write_evidence(outcome, temporary),
        ]
        if outcome.failures:
            names.append(write_failures(outcome, temporary))
        if outcome.copies is not None:
            names.append(write_duplicates(outcome, pool, temporary))
        if outcome.findings is not None:
            names += write_findings(outcome, temporary)
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
        (temporary / RUN).write_text(text, encoding="utf-8", errors="backslashreplace")
        stale = sorted({*SUBSETS.values(), *EXTRAS, "report.html"}.difference(names))
        plan = {"move": [*names, RUN], "remove": stale if _left_by_a_selection(out) else []}
        (temporary / LIST).write_bytes(json.dumps(plan).encode())
        for name in (*names, RUN, LIST):
            fsync(temporary / name)
        os.rename(temporary, out / NEXT)  # from now on the folder contains the new selection
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
        shutil.rmtree(temporary, ignore_errors=True)


def complete_exchange(out: Path) -> None:
    """Move the files of a complete new selection from `out`/NEXT to their places, as `write` does
    at its end.

    Completes a `write` that was killed: files that were moved are no longer in NEXT. Raises
    OSError.
    """
    new = out / NEXT
    if not new.is_dir():
        return
    if (new / LIST).exists():  # otherwise all was moved, and the folder was being removed
        plan = json.loads((new / LIST).read_bytes())
        if (new / RUN).exists():
            (out / RUN).unlink(missing_ok=True)  # must not describe new files
        if plan["remove"] and INFO not in plan["move"] and (out / INFO).is_file():
            remove_entries(out, set(SUBSETS.values()))  # entries that describe a removed subset
        for name in plan["remove"]:
            (out / name).unlink(missing_ok=True)
        for name in plan["move"]:
            if (new / name).exists():
                os.replace(new / name, out / name)
        (new / LIST).unlink()
    shutil.rmtree(new)


def read(out: str | Path) -> dict[str, Any]:
    """The content of run.yaml in a selection folder, with paths that are valid from here.
    Raises ConfigError if there is none."""
    out = Path(out)
    if (out / NEXT).is_dir():  # a process is writing it, or was killed
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


def refuse_other_request(out: str | Path, config: Mapping[str, Any], starts: str | Path) -> None:
    """Raise ConfigError if the folder contains the selection of another request.

    Arguments:
        out: the folder.
        config: the `config` section of a run.yaml.
        starts: where its paths that begin with ./ or ../ start: `out` for a stored one, else the
            working folder.
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
        comparable_request(config, Path(starts)),
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


def refuse_to_overwrite_selection(out: str | Path, target: Path) -> None:
    """Raise ConfigError if a file to be written belongs to a selection.

    Arguments:
        out: folder of the selection.
        target: the file to be written.
    """
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


def refuse_to_overwrite_others(pool: Pool, out: Path) -> None:
    """Raise ConfigError if a selection would overwrite a file of the pool or of a comparison, or a
    subset that no selection wrote.

    Arguments:
        pool: the pool.
        out: folder of the selection.
    """
    refuse_comparison(out)
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

    name = "subset" + exporters.default(pool)[1]
    if (out / name).exists() and not _left_by_a_selection(out):
        raise ConfigError(
            f" holds a {name} that no selection of thresher left there, and that would "
            "be lost. Move it, or give another folder.",
            option="out",
            value=out,
        )


def _left_by_a_selection(out: Path) -> bool:
    """Also true for a selection without run.yaml, whose writer was killed."""
    return any((out / name).exists() for name in ("run.yaml", "selection.parquet"))
