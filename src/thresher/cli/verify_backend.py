"""`thresher verify-backend`: whether a model gives the same numbers behind a server or in vLLM as
in this process."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from thresher.cli import options as o
from thresher.cli.guard import note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.backends import ModelHandle
    from thresher.evaluation.agreement import Agreement
    from thresher.pools import Pool
    from thresher.request import RunRequest
    from thresher.storage.columns import Store

BACKENDS = ("hf", "openai", "vllm")
DEFAULT = "hf,openai"


@o.takes_request("verify-backend")
def verify_backend(
    context: typer.Context,
    backends: Annotated[
        str,
        typer.Option(
            "--backends",
            metavar="A,B",
            help="The two to compare: hf (this process), openai (a server), vllm (its engine).",
        ),
    ] = DEFAULT,
    served_model: Annotated[
        str | None,
        typer.Option(
            "--served-model",
            metavar="NAME",
            help="The server's name of the model (default: that of --model, else its only one).",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", help="Rows to compare, drawn by the seed.")
    ] = 64,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance", metavar="X", help="Largest mean difference that passes, in nats."
        ),
    ] = 0.02,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Compare a model behind a server, or in vLLM, with the same weights in this process, on rows
    of a pool. Exit 1 if the numbers differ.

    Losses, their tokens, losses after a demonstration and answers to a question are compared.
    Nothing is stored.
    """
    from thresher.errors import ConfigError, opt
    from thresher.evaluation.agreement import compare_backends
    from thresher.methods.needs import no_model
    from thresher.selection.config import require
    from thresher.selection.opening import open_the_pool, store_of

    names = tuple(name.strip() for name in backends.split(","))
    if len(set(names)) != 2 or len(names) != 2 or not set(names) <= set(BACKENDS):
        raise ConfigError(
            f": expected two of {', '.join(BACKENDS)}, the first one as the reference.",
            option="backends",
            value=backends,
        )
    served = "openai" in names
    if served_model is not None and not served:
        raise ConfigError(
            f" is for a server: add openai to {opt('backends')}.", option="served_model"
        )
    arguments = tuple(context.params.get("vllm") or ())
    if arguments and "vllm" not in names:
        raise ConfigError(
            f" is an argument of vLLM's engine: add vllm to {opt('backends')}.",
            option="vllm",
            value=arguments[0],
        )
    request = o.request_of(context, backend="openai" if served else "hf", vllm=None)
    request = replace(request, vllm=arguments)
    require(request, "pool")
    if request.model is None:
        raise no_model("thresher verify-backend")
    store = store_of(request)
    models = _models(names, request, served_model, store)
    pool = open_the_pool(
        request.pool, request.images, store, note, request.format, request.trust_paths
    )
    found = compare_backends(
        request.model,
        {name: models[name] for name in names},
        pool,
        rows=rows,
        seed=request.seed,
        tolerance=tolerance,
    )
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        show(found, pool)
    if not found.agree:
        raise typer.Exit(1)


def _models(
    names: Sequence[str], request: RunRequest, served_model: str | None, store: Store
) -> dict[str, ModelHandle]:
    """The model in each of the named backends, not opened yet. Raises ConfigError, ModelError,
    ServerError."""
    from thresher.backends.openai.address import parse
    from thresher.backends.openai.resolve import served_models
    from thresher.request import SERVER
    from thresher.selection.request_models import server_options, the_model

    found: dict[str, ModelHandle | None] = {}
    no_server: dict[str, Any] = dict.fromkeys(SERVER)
    for name in names:
        if name != "openai":
            found[name] = the_model(replace(request, backend=cast(Any, name), **no_server), store)
            continue
        options = server_options(request)
        if served_model is None:
            assert request.url is not None  # the request was checked
            listed = served_models(parse(request.url), options)
            served_model = request.model if request.model in listed else None
        there = replace(request, model=served_model, image_pixels=None, adapter=None)
        found[name] = the_model(there, store, options)
    return {name: handle for name, handle in found.items() if handle is not None}


def show(found: Agreement, pool: Pool) -> None:
    """Print a table of the numbers, the rows that differ most, and the verdict.

    Arguments:
        found: the comparison.
        pool: that its rows are from.
    """
    from rich.markup import escape

    from thresher.console.formatting import pluralize
    from thresher.console.printing import plain, say, stdout, table
    from thresher.errors import spelled
    from thresher.request.spelling import as_flag

    console = stdout()
    first, second = found.backends
    say(
        console,
        f"[bold]{escape(plain(found.model))}[/]: {first} and {second} on {pluralize(found.rows)}.",
    )
    out = table(
        "number", "compared", "mean difference", "largest", "rank correlation", "", numbers=True
    )
    for d in found.differences:
        agrees = "agrees" if len(d.rows) else "nothing to compare"
        verdict = "differs" if d.exceeds(found.tolerance) else agrees
        out.add_row(
            f"{d.name} ({d.unit})" if d.unit else d.name,
            f"{len(d.rows):,}",
            f"{d.mean:.2g}",
            f"{d.largest:.2g}",
            f"{d.correlation:.4f}",
            verdict,
        )
    console.print(out)
    for d in found.differences:
        if worst := d.worst():
            ids = pool.ids([row for row, _, _ in worst])
            rows = "; ".join(
                f"row {row:,} (id {escape(plain(name))}): {a:.6g} and {b:.6g}"
                for name, (row, a, b) in zip(ids, worst, strict=True)
            )
            say(console, f"{d.name}, largest differences: {rows}.")
        for name, failed in zip(found.backends, d.failed, strict=True):
            if failed:
                row, why = next(iter(failed.items()))
                say(
                    console,
                    f"{d.name}: {name} alone could not score {pluralize(len(failed))}, such as "
                    f"row {row:,}: {escape(plain(why))}",
                )
    for text in found.missing:
        say(console, f"Not compared. {escape(plain(spelled(text, as_flag)))}")
    limit = f"tolerance: {found.tolerance:g} nats on average, equal numbers of tokens"
    say(
        console,
        f"The numbers agree ({limit})."
        if found.agree
        else f"[bold]The numbers differ[/] ({limit}): scores of one backend are not those of the "
        "other. docs/servers.md lists common reasons.",
    )
