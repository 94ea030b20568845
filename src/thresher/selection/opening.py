"""From a RunRequest to what a run needs, the cheapest checks first: a wrong command fails before
anything expensive starts.

Opens pools and resolves models; scores nothing and creates nothing but caches in the store. What
can be checked without reading the pool's rows or a model's weights is checked before that. What
cannot (a field that no row has, a folder that holds another selection) leaves the index of the pool
and the hashes of the weights in the store: the corrected command needs them, and making them takes
minutes for a large pool or model.
`say` receives messages for the user.

Longer than 400 lines because the order of the checks, and what each needs, must be seen together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.errors import ConfigError, opt
from thresher.extras import require as require_extra
from thresher.mixture import asks_for_signals, may_name_signals
from thresher.request import SERVER, RunRequest
from thresher.request.devices import parse_devices
from thresher.request.model_spec import is_url
from thresher.request.run_request import DEFAULT_METHOD
from thresher.selection.config import check_video_frames, default_store, require
from thresher.selection.request_models import (
    on_workers,
    server_options,
    the_embedder,
    the_model,
    the_roles,
    trainer_for,
)
from thresher.types import EMBEDDER, Budget, Method

if TYPE_CHECKING:
    from thresher.backends.openai.options import ServerOptions
    from thresher.engine import RunContext
    from thresher.pools import Pool
    from thresher.selection.decisions import Decided
    from thresher.selection.task import SelectionTask
    from thresher.storage.columns import Store

Say = Callable[[str], None]
TEST = ("test", "validation")  # splits of evaluation data, the one to take first
VALIDATION = ("validation", "test")


@dataclass(frozen=True)
class Job:
    """A run that was checked and has not started."""

    task: SelectionTask
    context: RunContext
    server: ServerOptions  # options of servers, and what they have cost so far


def prepare(
    request: RunRequest,
    say: Say,
    *,
    out: bool,
    options: Collection[str] = (),
    overwrite: bool = False,
    pool: Pool | None = None,
    progress: bool = True,
) -> Job:
    """Open the pool, the models and the store of a request, and check it. Raises ConfigError,
    PoolError, ModelError.

    Arguments:
        request: of the user.
        say: prints a note.
        out: whether a selection will be written.
        options: roles that were given with a separate option, such as "teacher".
        overwrite: whether the selection of another request may be replaced.
        pool: the pool, if it is open already.
        progress: whether reading is reported on stderr.
    """
    require(request, "pool", "budget", *(["out"] if out else []))
    by_default = not request.method
    if by_default:
        request = replace(request, method=DEFAULT_METHOD)  # so that run.yaml names it
    server = server_options(request)
    budget = Budget.parse(request.budget)
    from thresher.methods import load, without_a_model
    from thresher.methods.needs import (
        models_of,
        needs,
        needs_target,
        no_model,
        uses_embedder,
        uses_main_model,
    )

    if by_default:
        say(f"No {opt('method')} given: {DEFAULT_METHOD}.")
    method = load(request.method, request.settings)
    if not needs_target(method):
        request = _without_validation(method, request, say)
    elif request.validation is None:
        raise ConfigError(
            f" looks for what the model gets wrong on a validation set of "
            f"the target task: give one with {opt('validation')} (and {opt('validation_images')}).",
            option="method",
            value=method.name,
        )
    semantic, suspects = request.dedup == "semantic", request.drop_suspects is not None
    other = request.embedder is not None  # than the main model gives embeddings
    needed = uses_main_model(method, other)
    uses_model = needed or (semantic and not other) or suspects
    signals = may_name_signals(request)
    from thresher.selection.capabilities import check_capabilities
    from thresher.selection.requirements import check_extras

    here = request.model if request.backend != "openai" else None
    if uses_model and here is None and request.backend != "openai":
        first = opt("dedup", "semantic") if semantic and not other else opt("drop_suspects")
        raise no_model(
            opt("method", method.name) if needed else first,
            without=without_a_model() if by_default else (),
        )
    if other and not (uses_embedder(method) or semantic or suspects or signals):
        say(
            f"{method.name} uses no embeddings of rows; {opt('embedder', request.embedder)} is not "
            "used."
        )
        request = replace(request, embedder=None, embed_text=False)
    check_capabilities(method, request)
    check_extras(
        method,
        model=here,
        uses_model=uses_model or signals,
        embedder=request.embedder,
        extra="vllm" if request.backend == "vllm" else "hf",
        dedup=request.dedup,
        rounds=request.rounds or 1,
    )
    from thresher.engine import RunContext
    from thresher.selection.task import SelectionTask

    if out and request.out:
        from thresher.storage.writable import check_folder

        check_folder(request.out)
    if request.backend != "openai":
        _check_names(method, request, uses_model, options)
    store = store_of(request)
    store.check(
        writes=bool(needs(method)) or request.dedup is not None or suspects or signals
    )  # a method without a model stores only a cache
    if pool is None:
        pool = open_the_pool(
            request.pool,
            request.images,
            store,
            say,
            request.format,
            request.trust_paths,
            progress=progress,
            video_frames=request.video_frames,
        )
    named = asks_for_signals(request, pool)
    if named and request.model is None and request.backend != "openai":
        raise no_model(named)
    uses_model = uses_model or bool(named)
    target = None
    if request.validation is not None:
        trust = request.trust_paths
        target = open_the_pool(
            request.validation,
            request.validation_images,
            store,
            say,
            trust_paths=trust,
            splits=VALIDATION,
            progress=progress,
            video_frames=request.video_frames,
        )
    if out and request.out:
        check_out(request.out, pool)
    for name in ("model", "adapter", "image_pixels"):
        given = getattr(request, name)
        if not uses_model and given is not None:
            say(f"{method.name} asks no model; {opt(name, given)} is not used.")
            without: dict[str, Any] = {name: None}
            request = replace(request, **without)
    if not uses_model:
        if request.backend != "hf":
            say(f"{method.name} asks no model; {opt('backend', request.backend)} is not used.")
        further = [*models_of(method).values(), request.embedder]
        served = any(map(is_url, further))
        # the limits apply to its other models
        unused: dict[str, Any] = dict.fromkeys(("url",) if served else SERVER)
        request = replace(request, backend="hf", vllm=(), **unused)
    asks = uses_model or models_of(method) or request.embedder is not None
    workers = on_workers(request) if asks else request
    model = the_model(workers, store, server)
    if model is not None and request.model is None:
        # the only model of the server: a repeated run names it
        request = replace(request, model=model.name)
    roles = the_roles(
        method,
        workers,
        store,
        server,
        lambda role: role if role in options else f"settings.{role}",
    )
    embedder = the_embedder(workers, store, server)
    roles |= embedder
    if is_url(request.embedder) and "#" not in str(request.embedder):
        # the only model of the server: a repeated run names it
        name = embedder[EMBEDDER].identity.weights.removeprefix("api:")
        request = replace(request, embedder=f"{request.embedder}#{name}")
    if out and not overwrite:
        check_not_another(request, method)
    context = RunContext(store, model, roles, trainer_for(workers, store))
    context = replace(context, decided=_decided(request, method, pool, context, say))
    return Job(SelectionTask(pool, method, budget, request, target), context, server)


def _check_names(
    method: Method, request: RunRequest, uses_model: bool, options: Collection[str]
) -> None:
    """Raise NotAModel or ModelError for a model that is no folder with weights and no hub id.

    Arguments:
        method: with its settings, which may name further models.
        request: of the user.
        uses_model: whether the main model is used, whatever rows the pool has.
        options: as of `prepare`.
    """
    from thresher.backends.identity import check_name
    from thresher.methods.needs import models_of

    adapted = request.adapter is not None
    if uses_model and request.model is not None and not is_url(request.model):
        check_name(request.model, opt("model", request.model), adapted)
    for role, spec in models_of(method).items():
        if not is_url(spec):
            check_name(spec, opt(role if role in options else f"settings.{role}", spec))
    if request.embedder is not None and not is_url(request.embedder):
        check_name(request.embedder, opt("embedder", request.embedder), embedder=True)


def store_of(request: RunRequest) -> Store:
    """The store of a request. Raises ConfigError, also for one that its processes cannot share, and
    MissingExtra."""
    from thresher.storage.opening import open_store

    store = open_store(default_store() if request.store is None else request.store)
    if request.engine == "ray":
        processes = opt("engine", "ray")
    elif request.devices is not None and (
        (named := parse_devices(request.devices)) == ("all",) or len(named) > 1
    ):
        processes = opt("devices", request.devices)
    else:
        return store
    if not store.shared:
        raise ConfigError(
            f" is in the memory of one process, and {processes} starts several, which share the "
            "store. Give a folder, or an address such as s3://BUCKET/PREFIX.",
            option="store",
            value=store.address,
        )
    return store


def _without_validation(method: Method, request: RunRequest, say: Say) -> RunRequest:
    """The request without a validation set that the method does not use, which is reported."""
    if request.rounds is not None and request.rounds > 1:
        from thresher.selection.iterate import no_errors

        raise no_errors(method, request.rounds)
    if request.validation is not None:
        say(
            f"{method.name} uses no validation set; {opt('validation', request.validation)} is not "
            "used."
        )
    return replace(request, validation=None, validation_images=None, on_leak=None, rounds=None)


def check_out(out: str, pool: Pool) -> None:
    """Raise ConfigError if a selection cannot be written to the output folder.

    Arguments:
        out: the folder; need not exist.
        pool: whose files must not be overwritten.
    """
    from thresher.selection.folder import refuse_to_overwrite_others
    from thresher.storage.writable import check_folder

    refuse_to_overwrite_others(pool, check_folder(out))


def _decided(
    request: RunRequest, method: Method, pool: Pool, context: RunContext, say: Say
) -> Decided | None:
    """What the run.yaml of the request decided, if it is of the same request, rows and models. Else
    says that it is decided again. Raises MissingExtra where repeating it takes training."""
    from thresher.engine.graph import models_to_train, signals_of, walk
    from thresher.extras import require
    from thresher.selection.decisions import from_plain

    if not request.decided:
        return None
    decided = matching_decisions(request, method, pool, context)
    recorded = from_plain(request.decided)
    names = ", ".join(name for name, fields in recorded.items() if fields)
    if decided is None:
        say(
            f"What the config file decided ({names}) was for another request, model or pool: it is "
            "decided again."
        )
        return None
    signals = signals_of(method, replace(context, decided=decided), request.seed, 1000)
    if any(models_to_train(signal) for signal in walk(signals)):
        require(
            "train",
            f"Repeating what the config file decided ({names}) takes trained models, which",
        )
    say(f"What the config file decided is repeated: {names}.")
    return decided


def matching_decisions(
    request: RunRequest, method: Method, pool: Pool, context: RunContext
) -> Decided | None:
    """What the run.yaml of the request decided, if it is of the same request, rows and models.

    Arguments:
        request: with `decided` as it is in the file.
        method: with its settings.
        pool: the rows.
        context: the models.
    """
    from thresher.selection.decisions import KEY, from_plain
    from thresher.selection.record import key_of_run

    if request.decided.get(KEY) != key_of_run(request, method, pool, context):
        return None
    return from_plain(request.decided)


def check_not_another(request: RunRequest, method: Method) -> None:
    """Raise ConfigError, before anything is scored, if the output folder contains the selection of
    another request.

    Arguments:
        request: of the user.
        method: with its settings.
    """
    from thresher.selection.folder import refuse_other_request
    from thresher.selection.record import plain_request

    assert request.out is not None
    refuse_other_request(request.out, plain_request(request, method), Path.cwd())


def open_the_pool(
    path: str,
    images: str | None,
    store: Store,
    say: Say,
    format: str | None = None,
    trust_paths: bool = False,
    splits: Sequence[str] = (),
    progress: bool = True,
    video_frames: int | None = None,
) -> Pool:
    """The pool, from the cache next to the store if it was opened before. Raises PoolError,
    ConfigError (`format`).

    Arguments:
        path: of the pool, as the user named it.
        images: its image folder; None: the folder of each file.
        store: the cache is next to it.
        say: prints a note.
        format: a name of `readers.FORMATS`; None: detected.
        trust_paths: identify images by path and size.
        splits: for evaluation data, the splits of a folder that are read instead of its training
            split, in order of preference.
        progress: whether reading is reported on stderr.
        video_frames: as of the request.
    """
    from thresher.console.progress import ReadProgress
    from thresher.pools import open_pool
    from thresher.pools.folders import held_out_files

    reading = ReadProgress(path) if progress else None
    cache = store.root / "pools"
    files, split = held_out_files(path, splits) if splits else ([path], "")
    if split:
        say(f"{path}: its {split} split is read.")
    pool = open_pool(
        files,
        images,
        cache,
        reading,
        format,
        trust_paths,
        None if reading is None else reading.images,
    )
    for text in pool.notes:
        say(text)
    if video_frames is not None:
        check_video_frames(video_frames)
        require_extra("video", opt("video_frames", video_frames))
        pool.score_videos(video_frames)
    return pool
