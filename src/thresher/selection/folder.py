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

Past 400 lines because the files of a selection are written, replaced and read back together.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from thresher._version import __version__
from thresher.engine import RunContext
from thresher.engine.columns import compute_all
from thresher.engine.graph import signals_of, with_inputs
from thresher.errors import ConfigError, PoolError, StoreError
from thresher.exporters.llamafactory import INFO, remove_entries
from thresher.fingerprint import fingerprint
from thresher.mixture import resolve_mixture
from thresher.mixture.row_lists import MARK
from thresher.pools.layouts import LAYOUTS
from thresher.pools.locate import absolute_spec
from thresher.selection import paths as run_paths
from thresher.selection.config import stored_request
from thresher.selection.result import Outcome, Recipe
from thresher.storage.atomic import fsync, temporary_path
from thresher.storage.columns import Store
from thresher.storage.lock import folder_lock
from thresher.storage.writable import check_folder
from thresher.text import ParseError, parse_yaml
from thresher.training.registry import Trainer
from thresher.types import Budget, ModelIdentity, RowSignal, model_inputs

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
NO_PART_OF_A_REQUEST = frozenset(
    {
        "out",
        "store",
        "device",
        "batch_tokens",
        "retry_errors",
        "trust_remote_code",
        "max_requests",
        "max_cost",
    }
    | {"price_in", "price_out", "concurrency", "timeout", "api_key_env"}
)  # keys of a config that change no row
DEFAULTS = {
    "on_missing": "auto",
    "backend": "hf",
    "dtype": "auto",
    "on_leak": "refuse",
    "rounds": 1,
}
PLAIN = (bool, int, float, str, type(None))


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
        content = _run(outcome, pool, request, out)
        if not overwrite:
            refuse_another(out, content["config"])
        _write(outcome, pool, content, out)


def _write(outcome: Outcome, pool: Pool, content: dict[str, Any], out: Path) -> None:
    aside = temporary_path(out)
    try:
        aside.mkdir()
        names = [
            *_subset(outcome, pool, aside, out),
            _selection(outcome, pool, aside),
            _evidence(outcome, aside),
        ]
        if outcome.failures:
            names.append(_failures(outcome, aside))
        if outcome.copies is not None:
            names.append(_copies(outcome, pool, aside))
        if outcome.findings is not None:
            names += _errors(outcome, aside)
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
        (aside / RUN).write_text(text, encoding="utf-8", errors="backslashreplace")
        stale = sorted({*SUBSETS.values(), *EXTRAS, "report.html"}.difference(names))
        plan = {"move": [*names, RUN], "remove": stale if _left_by_a_selection(out) else []}
        (aside / LIST).write_bytes(json.dumps(plan).encode())
        for name in (*names, RUN, LIST):
            fsync(aside / name)
        os.rename(aside, out / NEXT)  # from here on the new selection is what the folder holds
        complete_exchange(out)
    except OSError as e:
        why = e.strerror or str(e)
        raise StoreError(
            f"The selection could not be written to {out}: {why}. The scores are stored; run again."
        ) from e
    except (StoreError, ConfigError) as e:  # the exporter's: name the folder that the user knows
        raise type(e)(str(e).replace(str(aside), str(out))) from e
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
            f"{e} Give another folder, or --overwrite to replace what is there."
        ) from e
    before, now = _request(earlier.get("config") or {}, out), _request(config, out)
    if before == now:
        return
    differs = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    kept = earlier.get("counts", {}).get("selected")
    rows = f", {kept:,} rows" if isinstance(kept, int) else ""
    raise ConfigError(
        f"--out {out} holds another selection ({before.get('method')}, budget "
        f"{before.get('budget')}{rows}; it differs in {', '.join(differs[:6])}). Give another "
        "folder, or --overwrite to replace it."
    )


def _request(config: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """What of a run's config decides about the result, in one spelling: as text, with absolute
    paths, without defaults."""
    config = run_paths.located_config(config, out)
    plain: dict[str, Any] = {}
    for key, value in config.items():
        if key in NO_PART_OF_A_REQUEST or value in (None, [], (), False, DEFAULTS.get(key)):
            continue
        if key in run_paths.POOLS:
            plain[key] = absolute_spec(str(value))
        elif key in run_paths.PATHS:
            plain[key] = (
                str(value)
                if "://" in str(value)
                else os.path.realpath(os.path.expanduser(str(value)))
            )
        elif key == "settings":
            plain |= {f"setting {k}": _setting(v) for k, v in value.items()}
        else:
            plain[key] = [str(v) for v in value] if isinstance(value, (list, tuple)) else str(value)
    if plain.get("url"):  # --backend openai --url URL --model NAME is --model URL#NAME
        plain.pop("backend", None)
        plain["model"] = f"{plain.pop('url')}#{plain.get('model', '')}"
    if os.path.isdir(str(plain.get("model", ""))):
        plain["model"] = os.path.realpath(plain["model"])
    return plain


def _setting(value: Any) -> str:
    text = (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
    return os.path.realpath(text) if os.sep in text and os.path.exists(text) else text


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
            f"--out {target} is a file of the selection itself, which must stay. Give another file."
        )


def spare_the_pool(pool: Pool, out: Path) -> None:
    """Raises ConfigError where a selection in the folder `out` would overwrite a file of the pool,
    or a subset that none left."""
    for name in _FILES:
        if (out / name).exists() and any(
            os.path.exists(s.uri) and (out / name).samefile(s.uri) for s in pool.file_specs
        ):
            raise ConfigError(
                f"--out {out} holds the pool itself ({name}), which must stay. Give another folder."
            )
    from thresher import exporters

    mine = "subset" + exporters.default(pool)[1]
    if (out / mine).exists() and not _left_by_a_selection(out):
        raise ConfigError(
            f"--out {out} holds a {mine} that no selection of thresher left there, and that would "
            "be lost. Move it, or give another folder."
        )


def _left_by_a_selection(out: Path) -> bool:
    """selection.parquet tells one also where a kill left it without its run.yaml."""
    return any((out / name).exists() for name in ("run.yaml", "selection.parquet"))


# ---------------------------------------------------------------------------------------- the files


def _subset(outcome: Outcome, pool: Pool, folder: Path, out: Path) -> list[str]:
    from thresher import exporters
    from thresher.exporters.llamafactory import INFO

    name = "subset" + exporters.default(pool)[1]
    described = exporters.declared(pool)
    if described and (out / INFO).is_file():  # its other entries stay
        shutil.copyfile(out / INFO, folder / INFO)
    exporters.export(pool, np.sort(outcome.rows), folder / name)
    return [name, INFO] if described else [name]


def _selection(outcome: Outcome, pool: Pool, folder: Path) -> str:
    columns = _who(pool, outcome.rows)
    columns["rank"] = pa.array(np.arange(len(outcome.rows), dtype=np.int64))
    for name, values in outcome.reason.items():
        columns[name] = _plain(values)
    pq.write_table(
        pa.table(columns, metadata=MARK), folder / "selection.parquet", compression="zstd"
    )
    return "selection.parquet"


def _evidence(outcome: Outcome, folder: Path) -> str:
    """row int64, rank int64 (null: dropped), then each reason: what a report or a comparison of
    selections needs later."""
    order = np.argsort(outcome.considered, kind="stable")
    seen = outcome.considered[order]
    rank = np.full(len(seen), -1, np.int64)
    rank[np.searchsorted(seen, outcome.rows)] = np.arange(len(outcome.rows))
    columns = {"row": pa.array(seen), "rank": pa.array(rank, mask=rank < 0)}
    for name, values in outcome.evidence.items():
        columns[name] = _plain(values[order])
    pq.write_table(
        pa.table(columns, metadata=MARK), folder / "evidence.parquet", compression="zstd"
    )
    return "evidence.parquet"


def _copies(outcome: Outcome, pool: Pool, folder: Path) -> str:
    """row, id, digest, duplicate_group: the rows that --dedup left out and the row that stands for
    each; sorted by row."""
    assert outcome.copies is not None
    columns = _who(pool, outcome.copies[:, 0]) | {"duplicate_group": pa.array(outcome.copies[:, 1])}
    pq.write_table(
        pa.table(columns, metadata=MARK), folder / "duplicates.parquet", compression="zstd"
    )
    return "duplicates.parquet"


def _failures(outcome: Outcome, folder: Path) -> str:
    with open(folder / "failures.jsonl", "w", encoding="utf-8", errors="backslashreplace") as f:
        for failure in outcome.failures:
            f.write(json.dumps(asdict(failure), ensure_ascii=False) + "\n")
    return "failures.jsonl"


def _errors(outcome: Outcome, folder: Path) -> list[str]:
    """The findings in a validation set. A line of errors.jsonl: the record's own fields, its id,
    question and images."""
    from thresher.pools import open_pool
    from thresher.signals.case import plain_question

    findings, validation = outcome.findings, outcome.recipe.validation
    assert findings is not None and validation is not None
    target = open_pool(*validation, cache=outcome.recipe.store / "pools")
    told = {"validation": target.spec, "images": str(target.images_folder), **findings.summary}
    (folder / "errors.json").write_text(
        json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    with open(folder / "errors.jsonl", "w", encoding="utf-8", errors="backslashreplace") as f:
        for record in findings.rows:
            sample = target.sample(int(record["row"]))
            where = [image.path for image in sample.images]
            line = {
                **record,
                "id": target.ids([int(record["row"])])[0],
                "question": plain_question(sample),
                "images": where,
            }
            f.write(json.dumps(line, ensure_ascii=False) + "\n")
    return ["errors.json", "errors.jsonl"]


def config_section(pool: Pool, recipe: Recipe, request: RunRequest | None) -> dict[str, Any]:
    """What was asked for, as the command line would say it: values by the names of `RunRequest`."""
    given: dict[str, Any] = {
        "pool": str(pool.path)
        if len(pool.file_specs) == 1 and Path(pool.path).exists()
        else pool.spec,
        "method": recipe.method,
        "budget": recipe.budget,
        "seed": recipe.request.seed,
        "store": str(recipe.store),
        "on_missing": recipe.request.on_missing,
    }
    # else the request says whether a folder was given
    if pool.images is not None and request is None:
        given["images"] = (
            str(pool.images_folder) if Path(pool.images_folder).is_dir() else pool.images
        )
    if recipe.model is not None:
        given["model"] = recipe.model
    if recipe.validation is not None:
        given["validation"], given["validation_images"] = recipe.validation
    given |= recipe.request.mixture
    if request is not None:
        given |= request.to_mapping()
    if absolute_spec(str(given["pool"])) != pool.spec:
        given["pool"] = pool.spec  # it was opened from another folder than this
    # all of them, so that a later default does not change a replay
    given["settings"] = plain_settings(recipe.settings)
    return given


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A method's settings as YAML holds them."""
    return {k: "none" if v is None else v for k, v in settings.items() if isinstance(v, PLAIN)}


def _run(outcome: Outcome, pool: Pool, request: RunRequest | None, out: Path) -> dict[str, Any]:
    """The content of run.yaml."""
    recipe = outcome.recipe
    given = config_section(pool, recipe, request)
    stored = run_paths.portable(given, out, tuple(recipe.roles))
    return {
        "thresher": __version__,
        run_paths.PATHS_KEY: run_paths.RULE,
        "config": stored,
        "pool": {
            "path": pool.spec,
            "images": pool.images,
            "format": pool.format,
            "read_as": pool.given_format,
            "trust_paths": pool.trust_paths,
            "files": len(pool.file_specs),
            "bytes": pool.total_bytes,
            "rows": len(pool),
        },
        "method": {
            "name": recipe.method,
            "seed": recipe.request.seed,
            "settings": plain_settings(recipe.settings),
        },
        "model": None
        if recipe.identity is None
        else {
            "name": recipe.model,
            "fingerprint": fingerprint(recipe.identity),
            "identity": asdict(recipe.identity),
        },
        "roles": {
            role: {"name": name, "fingerprint": fingerprint(identity), "identity": asdict(identity)}
            for role, (name, identity) in recipe.roles.items()
        },
        "store": os.path.realpath(recipe.store),
        "signals": [
            {
                "label": s.label,
                "signal": s.name,
                "fingerprint": s.fingerprint,
                "wanted": s.wanted,
                "failed": s.failed,
            }
            for s in outcome.signals
        ],
        "trained_models": [
            {"label": t.label, "fingerprint": t.fingerprint, "rows": t.rows}
            for t in outcome.trainings
        ],
        "counts": {
            "pool": len(pool),
            "usable": len(outcome.considered),
            "left_out": outcome.excluded,
            "budget": outcome.budget,
            "selected": len(outcome.rows),
        },
        "notes": list(outcome.notes),
        "versions": _versions(bool(outcome.signals)),
    }


def _versions(model_used: bool) -> dict[str, str]:
    out = {"python": "{}.{}.{}".format(*sys.version_info[:3])}
    for name in ("numpy", "pyarrow", *(("torch", "transformers") if model_used else ())):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out


def _who(pool: Pool, rows: np.ndarray) -> dict[str, pa.Array]:
    raw = np.ascontiguousarray(pool.digest[rows]).tobytes().hex()
    return {
        "row": pa.array(np.asarray(rows, dtype=np.int64)),
        "id": pa.array(map(_storable, pool.ids(rows)), pa.string()),
        "digest": pa.array([raw[i : i + 64] for i in range(0, len(raw), 64)], pa.string()),
    }


def _storable(text: str) -> str:
    """Text that UTF-8 can hold: a lone surrogate is escaped, as JSON does it."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _plain(values: np.ndarray, known: np.ndarray | None = None) -> pa.Array:
    """An array as a column that any tool reads: bytes become hexadecimal text; null where not
    known."""
    values = np.asarray(values)
    mask = None if known is None else ~known
    if values.dtype.kind == "S":
        width = 2 * values.dtype.itemsize
        raw = np.ascontiguousarray(values).tobytes().hex()
        texts = [raw[i : i + width] for i in range(0, len(raw), width)]
        return pa.array([t if t.strip("0") else "" for t in texts], pa.string(), mask=mask)
    if values.dtype.kind in "OU":
        return pa.array([_storable(str(v)) for v in values], pa.string(), mask=mask)
    return pa.array(values, mask=mask)


# -------------------------------------------------------------------------------------- all columns


def signals_table(out: str | Path) -> pa.Table:
    """Every column that the selection in `out` used, for the whole pool, in pool order.

    Columns: row, id, digest, then `<signal>.<field>` (null where the row failed) and
    `<signal>.error` ("" = fine). Opens no model. Raises ConfigError (not a selection), PoolError
    (the pool changed) or StoreError (scores are gone).
    """
    from thresher import methods
    from thresher.backends import ModelHandle
    from thresher.methods.settings import as_text
    from thresher.pools import open_pool

    run = read(out)
    store = Store(run["store"])
    told = run["pool"]
    cache, trust = store.root / "pools", told.get("trust_paths", False)
    pool = open_pool(
        told["path"], told["images"], cache=cache, format=told.get("read_as"), trust_paths=trust
    )
    if len(pool) != told["rows"] or pool.total_bytes != told["bytes"]:
        raise PoolError(
            f"{pool.path} has changed since the selection in {out} was made "
            f"({run['pool']['rows']:,} rows then, {len(pool):,} now). Select again, or put the "
            "old file back."
        )
    settings = {k: as_text(v) for k, v in run["method"]["settings"].items()}
    method = methods.load(run["method"]["name"], settings)

    def handle(noted: dict[str, Any]) -> ModelHandle:
        return ModelHandle(
            noted["name"], ModelIdentity(**noted["identity"]), open=lambda: _gone(store, out)
        )

    model = None if run["model"] is None else handle(run["model"])
    roles = {role: handle(noted) for role, noted in run.get("roles", {}).items()}
    asked = stored_request(run["config"])
    request = replace(asked, seed=run["method"]["seed"], on_missing="exclude", retry_errors=False)
    gone = Trainer(fit=lambda *a, **k: _gone(store, out), open=lambda folder: _gone(store, out))
    context = RunContext(store, model, roles, gone)
    resolved = resolve_mixture(pool, Budget(request.budget), request, context)
    signals = with_inputs(signals_of(method, context, request.seed, resolved.budget))
    then = {s["fingerprint"] for s in run["signals"]}
    for name, signal in signals.items():
        if (
            isinstance(signal, RowSignal)
            and not _of_a_trained_model(signal)
            and fingerprint(signal) not in then
        ):
            raise StoreError(
                f"This version of thresher ({__version__}) computes {name} in another way than "
                f"the one that made {out} ({run['thresher']}). Select again."
            )
    columns = compute_all(signals, pool, request, context, resolved.within)
    table = _who(pool, np.arange(len(pool)))
    for name, column in columns.items():
        for field, values in column.values.items():
            table[f"{name}.{field}"] = _plain(values, column.known)
        table[f"{name}.error"] = pa.array(column.errors.tolist(), pa.string())
    return pa.table(table)


def _of_a_trained_model(signal: RowSignal) -> bool:
    """Whether the store knows the signal by the rows that its model was trained on: not known
    before they are drawn."""
    return any(model_inputs(value) for value in vars(signal).values())


def _gone(store: Store, out: str | Path) -> Any:
    raise StoreError(
        f"Scores that the selection in {out} used are no longer in the store {store.root}. Select "
        "again."
    )
