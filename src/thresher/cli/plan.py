"""`thresher plan`: what a run would score and cost, before it starts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli import options as o
from thresher.cli.guard import note

if TYPE_CHECKING:
    from thresher.request import RunRequest
    from thresher.selection.gpus import GpuEstimate
    from thresher.selection.plan import Plan
    from thresher.selection.signal_plan import SignalPlan


@o.takes_request("plan")
def plan(
    context: typer.Context,
    teacher: o.Teacher = None,
    config: o.Config = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe/--no-probe",
            help="Measure 64 rows to estimate time and memory, or do not load the model.",
        ),
    ] = True,
    gpus: Annotated[
        bool,
        typer.Option(
            "--gpus",
            help="Also estimate hours and memory on common GPUs, from published figures and the "
            "model's size. Works with --no-probe, without the GPU and without the memory.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Estimate what select with the same options would score and cost.

    Stores no score. The estimate is kept: `run.yaml` of that select compares it with what it took.
    """
    from thresher.selection.cost_record import keep_prediction
    from thresher.selection.gpus import on_gpus, to_json
    from thresher.selection.opening import prepare
    from thresher.selection.plan import plan as make

    request = o.request_of(context)
    job = prepare(request, note, out=False, options=o.roles_by_option(context))
    made = make(job.task, job.context, probe=probe, count_images=gpus)
    keep_prediction(made, job.task, job.context)
    bill = _estimated(made, request)
    estimates, left_out = on_gpus(made, job.task, job.context) if gpus else ([], [])
    if as_json:
        content = made.to_json() | ({} if bill is None else {"cost": bill.cost})
        content |= {"gpus": to_json(estimates)} if gpus else {}
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        more = [] if bill is None else bill.notes(request)
        if request.rounds is not None and request.rounds > 1:
            more.append(
                f"This is the first of {request.rounds} rounds. Each further round trains the "
                "model on the rows so far and asks the new one about the validation rows; the "
                "columns of the pool are those of the first."
            )
        show(made, [*more, *left_out], estimates)


def show(plan: Plan, more: Sequence[str] = (), gpus: Sequence[GpuEstimate] = ()) -> None:
    """Print what the budget saves, a table of what is to be scored, and the cost.

    Arguments:
        plan: what a run would do.
        more: further notes.
        gpus: the run on other GPUs.
    """
    from rich.markup import escape

    from thresher.console.formatting import format_duration, pluralize
    from thresher.console.printing import say, stdout, table

    console = stdout()
    asked = f", asking {escape(plan.model)}" if plan.model else ""
    say(
        console,
        f"[bold]{plan.method}[/] would keep {plan.budget:,} of {pluralize(plan.pool_rows)} "
        f"({plan.share:.1%}){asked}.",
    )
    say(console, plan.saving.sentence(), markup=False)
    if plan.signals:
        grouped = lines([s for s in plan.signals if s.needed] or plan.signals)
        out = table(
            "scores (questions)" if any("(" in line.name for line in grouped) else "scores",
            "needed",
            "stored",
            "to score",
            "tokens",
            "time",
        )
        for line in grouped:
            mark = "at most " if line.upper_bound else ""
            tokens = "?" if line.tokens is None else f"{line.tokens:,}"
            hours = "?" if line.hours is None else format_duration(line.hours * 3600)
            out.add_row(
                line.name,
                f"{line.needed:,}",
                f"{line.stored:,}",
                f"{mark}{line.to_score:,}",
                tokens,
                hours,
            )
        for column in out.columns[1:]:
            column.no_wrap = True  # on a narrow terminal the names are shortened
        console.print(out)
    if not plan.signals:
        say(console, "The method needs no model.")
    elif plan.to_score == 0:
        say(console, "Nothing is left to score: the model will not be loaded.")
    else:
        most = "at most " if plan.upper_bound else ""
        tokens = "an unknown number of" if plan.tokens is None else f"about {plan.tokens:,}"
        hours = (
            "unknown time"
            if plan.hours is None
            else (f"about {format_duration(plan.hours * 3600)}")
        )
        if plan.hours is not None and plan.least_hours is not None:
            least, at_most = (format_duration(h * 3600) for h in (plan.least_hours, plan.hours))
            if least != at_most:  # both as they are displayed
                hours = f"about {least}, or up to {at_most} if the scores call for more"
        rows = sum(line.rows for line in grouped)
        say(
            console,
            f"In total {most}{rows:,} rows to score, {tokens} tokens, {hours}"
            f"{f' on {plan.devices} devices' if plan.devices > 1 else ''}; {plan.basis}.",
        )
        if plan.peak_bytes is not None:
            of = "of a GPU" if plan.memory == "device" else "of the process"
            say(console, f"Peak memory {of} about {plan.peak_bytes / 2**30:.1f} GiB.")
    if gpus:
        show_gpus(gpus, plan.devices)
    for text in (*plan.notes, *more):
        say(console, f"Note: {text}", markup=False)


def show_gpus(estimates: Sequence[GpuEstimate], devices: int) -> None:
    """Print the run on other GPUs, a line for each.

    Arguments:
        estimates: at least one.
        devices: how many of them score at the same time.
    """
    from thresher.console.formatting import format_duration
    from thresher.console.printing import stdout, table

    many = f"{devices} x " if devices > 1 else ""
    out = table("GPU (estimate)", "memory", "needed", "selecting", "saved per epoch")
    for e in estimates:
        times = ["does not fit", ""]
        if e.fits:
            found = (e.hours, e.saved_hours_per_epoch)
            times = ["?" if h is None else format_duration(3600 * h) for h in found]
        memory, needed = (f"{n / 1e9:,.0f} GB" for n in (e.memory_bytes, e.needed_bytes))
        needed = needed if e.needed_bytes >= 1e9 else "< 1 GB"
        out.add_row(many + e.gpu, memory, needed, *times)
    stdout().print(out)


# ------------------------------------------------------------------------------------------ servers


@dataclass(frozen=True)
class Bill:
    """Number of requests to servers, repeated ones not counted, and `cost` in the currency of the
    prices (None without prices)."""

    requests: int
    tokens_in: int
    tokens_out: int
    cost: float | None

    def notes(self, request: RunRequest) -> list[str]:
        """The cost, and which limits would stop the run."""
        out = []
        if self.cost is not None:
            out.append(
                f"At the prices given about {self.cost:.4g}, by an estimated {self.tokens_in:,} "
                f"tokens in and {self.tokens_out:,} out."
            )
        if request.max_requests is not None and self.requests > request.max_requests:
            out.append(
                f"--max-requests {request.max_requests:,} stops the run early; the same command "
                "resumes it."
            )
        if request.max_cost is not None and self.cost is not None and self.cost > request.max_cost:
            out.append(
                f"--max-cost {request.max_cost:g} stops the run early; the same command resumes it."
            )
        return out


def _estimated(plan: Plan, request: RunRequest) -> Bill | None:
    """What a run would ask servers for; None if it would ask none.

    Arguments:
        plan: what a run would do.
        request: with the prices.
    """
    served = [s for s in plan.signals if s.served and s.passes]
    if not served:
        return None
    tokens_in = sum(s.tokens or 0 for s in served)
    tokens_out = sum(s.passes * s.answer_tokens for s in served)
    cost = None
    if request.price_in is not None and request.price_out is not None:
        cost = (tokens_in * request.price_in + tokens_out * request.price_out) / 1e6
    return Bill(sum(s.passes for s in served), tokens_in, tokens_out, cost)


# ------------------------------------------------------------------------------------ a line a pass


@dataclass(frozen=True)
class Line:
    """One signal, or several that are asked about a row together. Counts are of rows: each counts
    once, however many questions it is asked."""

    name: str
    needed: int
    stored: int
    to_score: int
    rows: int  # passes of the model; if each question is asked separately, one for each
    upper_bound: bool
    tokens: int | None
    hours: float | None


def lines(signals: Sequence[SignalPlan]) -> list[Line]:
    """A line for the signals of one pass that miss the same number of rows, in the order of the
    first; also for more than FEW signals of one kind that are asked one by one.
    """
    from thresher.selection.cost_lines import FEW

    alike = Counter(s.signal for s in signals if not s.asked_with)
    groups: dict[tuple[object, ...], list[SignalPlan]] = {}
    for s in signals:
        with_whom = s.asked_with or (
            f"kind {s.signal}" if alike[s.signal] > FEW else f"single {s.label}"
        )
        groups.setdefault(
            (bool(s.asked_with), with_whom, s.needed, s.to_score, s.upper_bound), []
        ).append(s)
    return [_line(group) for group in groups.values()]


def _line(group: Sequence[SignalPlan]) -> Line:
    from thresher.selection.cost_lines import families

    first = group[0]
    tokens, hours = [s.tokens for s in group], [s.hours for s in group]
    return Line(
        name=", ".join(families([(s.signal, s.label) for s in group])),
        needed=first.needed,
        stored=first.stored,
        to_score=first.to_score,
        rows=first.to_score * (1 if first.asked_with else len(group)),
        upper_bound=first.upper_bound,
        tokens=None if None in tokens else sum(t for t in tokens if t is not None),
        hours=None if None in hours else sum(h for h in hours if h is not None),
    )
