"""From a `CompareRequest` to a checked comparison, the cheapest checks first: a wrong command fails
before anything expensive starts.

Opens pools and resolves models; scores and trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from thresher.compare.cells import Job, make_job
from thresher.compare.folder import refuse_other_contents
from thresher.compare.request import CompareRequest
from thresher.errors import (
    SETTING,
    CapabilityError,
    ConfigError,
    TooManyFailures,
    did_you_mean,
    opt,
)
from thresher.methods import load
from thresher.methods.needs import needs_target, no_model, uses_embedder
from thresher.request import RunRequest
from thresher.request.model_spec import is_url
from thresher.request.spelling import as_flag_of
from thresher.selection.config import parse_settings
from thresher.selection.devices import devices_of
from thresher.selection.opening import TEST, VALIDATION, open_the_pool, store_of
from thresher.selection.owner import refuse_selection
from thresher.selection.request_models import (
    on_workers,
    server_options,
    the_embedder,
    the_model,
    the_roles,
    trainer_for,
)
from thresher.types import Budget, Method

if TYPE_CHECKING:
    from thresher.compare.cell_runner import Evaluate
    from thresher.engine import RunContext
    from thresher.pools import Pool

Say = Callable[[str], None]


@dataclass(frozen=True)
class Opened:
    """A comparison that was checked and has not started."""

    job: Job
    context: RunContext  # without progress
    evaluate: Evaluate


def open_comparison(request: CompareRequest, say: Say) -> Opened:
    """Open the pools, the models and the store of a comparison, and check it.

    Arguments:
        request: of the user.
        say: prints a note.

    Raises ConfigError, CapabilityError, MissingExtra, PoolError, ModelError, TooManyFailures.
    """
    from thresher.backends.openai.resolve import is_served
    from thresher.engine import RunContext
    from thresher.evaluation import evaluate
    from thresher.extras import require
    from thresher.tracking import require_tracker

    methods, options = load_methods(request.methods, request.settings), request.options
    if options.model is None:
        raise no_model("thresher compare")
    if options.out is not None:
        refuse_selection(options.out)
    require("train", "thresher compare")
    require_tracker(options.track)
    embedded = [name for name, method in methods.items() if uses_embedder(method)]
    without = replace(options, embedder=None, embed_text=False)
    if options.embedder is not None and not embedded:
        say(
            "none of the methods uses embeddings of rows; "
            f"{opt('embedder', options.embedder)} is not used."
        )
        options = without
    for name, method in methods.items():
        _check_models(name, method, options if name in embedded else without)
    devices_of(options)  # raises an error where one does not exist
    store = store_of(options)
    store.check()
    workers = options if is_url(options.model) else on_workers(options)  # a URL is refused below
    model = the_model(workers, store)
    assert model is not None
    if is_served(model.identity):
        raise CapabilityError(
            f"compare trains {opt('model')} once a cell, and {model.name!r} is behind a server. "
            f"Give its weights: {opt('model')} with a folder or a hub id. (Further models, such as "
            "a teacher, may be behind a server.)"
        )
    server = server_options(options)
    embedder = the_embedder(workers, store, server)
    opened = partial(
        open_the_pool,
        store=store,
        say=say,
        trust_paths=options.trust_paths,
        video_frames=options.video_frames,
    )
    job = make_job(
        opened(options.pool, options.images),
        opened(request.test, request.test_images, splits=TEST),
        methods=methods,
        budgets=[Budget.parse(text) for text in request.budgets.split(",") if text.strip()],
        seeds=request.seeds,
        model=model,
        recipe=request.recipe,
        full=request.full,
        equal=request.equal,  # type: ignore[arg-type]  # checked there
        score=_score(request.score),
        roles={
            name: the_roles(method, workers, store, server, f"settings.{name}.{{}}".format)
            | (embedder if name in embedded else {})
            for name, method in methods.items()
        },
        target=None
        if options.validation is None
        else opened(options.validation, options.validation_images, splits=VALIDATION),
        request=options,
    )
    if options.out is not None:
        refuse_other_contents(options.out, job)
    if options.validation is not None and not any(map(needs_target, methods.values())):
        say(
            "none of the methods uses a validation set; "
            f"{opt('validation', options.validation)} is not used."
        )
    _check_questions(job.test, job.score, options.on_missing)
    return Opened(
        job,
        RunContext(store, trainer=trainer_for(workers, store)),
        partial(evaluate, score=job.score, on_missing=options.on_missing),  # type: ignore[arg-type]
    )


def load_methods(names: str, settings: Sequence[str]) -> dict[str, Method]:
    """The methods to compare, by name.

    >>> sorted(load_methods("clipper,mllm_selector", ["clipper.bins=10"]))
    ['clipper', 'mllm_selector']

    Arguments:
        names: of methods, with commas between them.
        settings: METHOD.KEY=VALUE each.

    Raises ConfigError for an unknown method or setting, and where only random is named.
    """
    requested = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not [name for name in requested if name != "random"]:
        raise ConfigError(
            ": name at least one to compare with random; `thresher methods` lists them.",
            option="methods",
        )
    given: dict[str, dict[str, str]] = {name: {} for name in requested}
    for key, value in parse_settings(list(settings)).items():
        method, dot, name = key.partition(".")
        if not dot or method not in given:
            raise ConfigError(
                f": expected METHOD.KEY=VALUE with one of {opt('methods')}, such as "
                f"{requested[0]}.KEY={value}.{did_you_mean(method, requested) if dot else ''}",
                option=f"settings.{key}",
                value=value,
            )
        given[method][name] = value

    def load_one(name: str) -> Method:
        try:
            return load(name, given[name])
        except ConfigError as e:
            if not e.option.startswith(SETTING):
                raise
            raise ConfigError(e.spelled(as_flag_of(name))) from None  # as it is typed here

    return {name: load_one(name) for name in requested}


def _check_models(name: str, method: Method, options: RunRequest) -> None:
    """Check that the models of a method can do what it needs and that their packages are there.
    Raises MissingExtra, and CapabilityError or ConfigError that name its settings as they are typed
    here.

    Arguments:
        name: of the method.
        method: with its settings.
        options: of the comparison; with an embedder only where the method uses one.
    """
    from thresher.selection.capabilities import check_capabilities
    from thresher.selection.requirements import check_extras

    check_extras(
        method, model=options.model, uses_model=True, embedder=options.embedder, dedup=None
    )
    if is_url(options.model):
        return  # refused for every method
    try:
        check_capabilities(method, options)
    except (CapabilityError, ConfigError) as e:
        raise type(e)(e.spelled(as_flag_of(name))) from None


def _check_questions(test: Pool, score: str, on_missing: str) -> None:
    """Check that the evaluation set can be evaluated, before the first cell is trained. Raises
    ConfigError, TooManyFailures."""
    from thresher.evaluation import check_rows

    try:
        # checked above
        check_rows(test, score=score, on_missing=on_missing)  # type: ignore[arg-type]
    except TooManyFailures as e:
        raise TooManyFailures(f": {e.message}", option="eval", value=test.path) from None


def _score(score: str) -> str:
    from thresher.evaluation import SCORES

    if score not in SCORES:
        raise ConfigError(
            f": expected one of {', '.join(SCORES)}.{did_you_mean(score, list(SCORES))}",
            option="score",
            value=score,
        )
    return score
