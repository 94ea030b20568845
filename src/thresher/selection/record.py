"""The record of a run: the content of run.yaml, and which part of it determines the result."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher._version import __version__
from thresher.backends.vllm.arguments import changing_numbers
from thresher.fingerprint import fingerprint
from thresher.pools.locate import absolute_spec
from thresher.request.spelling import as_flag
from thresher.selection import paths as run_paths
from thresher.selection.decisions import to_plain
from thresher.selection.result import Outcome, Recipe
from thresher.storage.addresses import absolute
from thresher.types import Method, ModelIdentity

if TYPE_CHECKING:
    from thresher.engine import RunContext
    from thresher.pools import Pool
    from thresher.request import RunRequest

NO_PART_OF_A_REQUEST = frozenset(
    {
        "decided",
        "out",
        "store",
        "device",
        "devices",
        "engine",
        "ray_address",
        "ray_workers",
        "batch_tokens",
        "retry_errors",
        "trust_remote_code",
        "track",
        "max_requests",
        "max_cost",
    }
    | {"price_in", "price_out", "concurrency", "timeout", "api_key_env"}
)  # keys of a config that do not change the selected rows
DEFAULTS = {
    "on_missing": "auto",
    "backend": "hf",
    "dtype": "auto",
    "on_leak": "refuse",
    "rounds": 1,
}
PLAIN = (bool, int, float, str, type(None))


def config_section(pool: Pool, recipe: Recipe, request: RunRequest | None) -> dict[str, Any]:
    """The request as plain values, by the names of the fields of `RunRequest`.

    Arguments:
        pool: that was selected from.
        recipe: method, budget and models.
        request: of the run.
    """
    given: dict[str, Any] = {
        "pool": str(pool.path)
        if len(pool.file_specs) == 1 and Path(pool.path).exists()
        else pool.spec,
        "method": recipe.method,
        "budget": recipe.budget,
        "seed": recipe.request.seed,
        "store": recipe.store,
        "on_missing": recipe.request.on_missing,
    }
    # otherwise the request has the folder, if one was given
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
        given["pool"] = pool.spec  # it was opened from another working directory
    # with defaults, so that a later default does not change a repeated run
    given["settings"] = plain_settings(recipe.settings)
    given.pop("decided", None)  # of the run that this one repeats
    return given


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A method's settings as YAML holds them."""
    return {k: "none" if v is None else v for k, v in settings.items() if isinstance(v, PLAIN)}


def plain_request(request: RunRequest, method: Method) -> dict[str, Any]:
    """The request as run.yaml holds it, with all settings of the method.

    Arguments:
        request: of the user.
        method: with its settings.
    """
    given = request.to_mapping()
    given["settings"] = plain_settings({f.name: getattr(method, f.name) for f in fields(method)})  # type: ignore[arg-type]
    return given


def run_record(
    outcome: Outcome,
    pool: Pool,
    request: RunRequest | None,
    out: Path,
    cost: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of run.yaml.

    Arguments:
        outcome: the selection.
        pool: that it was made from.
        request: of the run.
        out: folder of the selection.
        cost: its section `cost` (`cost_record`); None: there is none.
    """
    recipe = outcome.recipe
    given = config_section(pool, recipe, request)
    if outcome.decided:
        roles = {role: identity for role, (_, identity) in recipe.roles.items()}
        key = key_of(given, pool, recipe.identity, roles)
        given["decided"] = to_plain(outcome.decided, key)
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
            **({} if pool.video_frames is None else {"video_frames": pool.video_frames}),
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
        "store": absolute(recipe.store),
        "signals": [
            {
                "label": s.label,
                "signal": s.name,
                "fingerprint": s.fingerprint,
                "needed": s.needed,
                "failed": s.failed,
            }
            for s in outcome.signals
        ],
        "trained_models": [
            {"label": t.label, "fingerprint": t.fingerprint, "rows": t.rows}
            for t in outcome.trainings
        ],
        "counts": counts(outcome, pool),
        **({} if cost is None else {"cost": dict(cost)}),
        "notes": [note.spelled(as_flag) for note in outcome.notes],
        "note_kinds": [note.kind for note in outcome.notes],
        "versions": _versions(bool(outcome.signals)),
    }


def counts(outcome: Outcome, pool: Pool) -> dict[str, int]:
    """How many rows there are, could be used, were asked for and were selected.

    Arguments:
        outcome: the selection.
        pool: that it was made from.
    """
    return {
        "pool": len(pool),
        "usable": len(outcome.considered),
        "left_out": outcome.excluded,
        "budget": outcome.budget,
        "selected": len(outcome.rows),
    }


def _versions(model_used: bool) -> dict[str, str]:
    out = {"python": "{}.{}.{}".format(*sys.version_info[:3])}
    for name in ("numpy", "pyarrow", *(("torch", "transformers") if model_used else ())):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out


def comparable_request(config: Mapping[str, Any], starts: Path) -> dict[str, Any]:
    """The part of a run's config that determines the result, normalised: as text, with absolute
    paths, without defaults.

    Arguments:
        config: a `config` section, stored or of this run.
        starts: where paths that begin with ./ or ../ start: for a stored one the folder of the
            selection, else the working folder.
    """
    config = run_paths.located_config(config, starts)
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
        elif key == "vllm":
            if changing := changing_numbers(value):
                plain[key] = changing
        elif key == "settings":
            plain |= {f"setting {k}": _setting(v) for k, v in value.items()}
        else:
            plain[key] = [str(v) for v in value] if isinstance(value, (list, tuple)) else str(value)
    if plain.get("url"):  # --backend openai --url URL --model NAME is --model URL#NAME
        plain.pop("backend", None)
        plain["model"] = f"{plain.pop('url')}#{plain.get('model', '')}"
    for key in run_paths.PERHAPS:
        if os.path.isdir(str(plain.get(key, ""))):
            plain[key] = os.path.realpath(plain[key])
    return plain


def _setting(value: Any) -> str:
    text = (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
    return os.path.realpath(text) if os.sep in text and os.path.exists(text) else text


def key_of(
    config: Mapping[str, Any],
    pool: Pool,
    model: ModelIdentity | None,
    roles: Mapping[str, ModelIdentity],
) -> str:
    """Identifies a request, its rows and its models, for `decisions`.

    Arguments:
        config: the request, with all settings of the method as plain values.
        pool: the rows.
        model: the main model.
        roles: further models.
    """
    plain = {
        name: value
        for name, value in comparable_request(config, Path.cwd()).items()
        if name not in (*run_paths.PATHS, *run_paths.POOLS, *run_paths.PERHAPS)
    }
    rows = hashlib.sha256(np.ascontiguousarray(pool.digest[pool.order]).tobytes()).hexdigest()
    names = tuple(sorted(roles))
    return fingerprint(
        (json.dumps(plain, sort_keys=True), rows, model, names, tuple(roles[n] for n in names))
    )


def key_of_run(request: RunRequest, method: Method, pool: Pool, context: RunContext) -> str:
    """`key_of` a run that has not started.

    Arguments:
        request: of the user.
        method: with its settings.
        pool: the rows.
        context: the models.
    """
    main = None if context.model is None else context.model.identity
    roles = {role: handle.identity for role, handle in context.roles.items()}
    return key_of(plain_request(request, method), pool, main, roles)
