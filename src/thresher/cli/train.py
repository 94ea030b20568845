"""`thresher train`: fine-tune a model on a subset, on the answers only. The folder that it writes
can be given as --model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli import options as o

if TYPE_CHECKING:
    from thresher.training import TrainingResult

RECIPE_PANEL = "Recipe"


def train(
    subset: Annotated[
        str,
        typer.Argument(
            metavar="SUBSET", help="The rows to train on, in any pool format.", show_default=False
        ),
    ],
    out: Annotated[
        str,
        typer.Option("--out", "-o", metavar="DIR", help="The folder to write.", show_default=False),
    ],
    images: Annotated[str | None, o.option("images")] = None,
    trust_paths: Annotated[bool | None, o.option("trust_paths")] = None,
    model: Annotated[
        str | None,
        o.option(
            "model", help="The model to fine-tune: a folder, a hub id, or demo (built in, tiny)."
        ),
    ] = None,
    epochs: Annotated[
        float,
        typer.Option(
            "--epochs", metavar="X", help="Passes over the rows.", rich_help_panel=RECIPE_PANEL
        ),
    ] = 1.0,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            help="Optimiser steps instead of passes.",
            show_default=False,
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr",
            metavar="RATE",
            help="Learning rate (default: 2e-4, with --full 2e-5; models under 100 M parameters "
            "2e-3 and 1e-3).",
            show_default=False,
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option("--batch", metavar="N", help="Rows per batch.", rich_help_panel=RECIPE_PANEL),
    ] = 16,
    accumulation: Annotated[
        int,
        typer.Option(
            "--accumulation",
            metavar="N",
            help="Batches per optimiser step.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = 1,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Train all weights except the vision tower, instead of LoRA adapters.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = False,
    merge: Annotated[
        bool,
        typer.Option("--merge", help="Write a whole model instead of adapters."),
    ] = False,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            help="Random seed: order of the rows.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = 0,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            metavar="P",
            help="fp32, bf16, or auto: bf16 on a GPU that supports it.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = "auto",
    image_pixels: Annotated[str | None, o.option("image_pixels")] = None,
    video_frames: Annotated[
        int | None,
        o.option(
            "video_frames",
            help="Train on rows with videos, too: on N frames of each at equal distances, the "
            "first and the last among them (default: such rows are left out).",
        ),
    ] = None,
    device: Annotated[str | None, o.option("device")] = None,
    trust_remote_code: Annotated[bool | None, o.option("trust_remote_code")] = None,
    store: Annotated[str | None, o.option("store")] = None,
    track: Annotated[str | None, o.option("track")] = None,
) -> None:
    """Fine-tune a model on the rows of a file: LoRA by default, loss on the answers only.

    The folder that it writes can be given as --model.

    A killed training resumes from its last checkpoint when the same command is run again.
    """
    from thresher.training import Recipe, fit

    recipe = Recipe(
        epochs=epochs,
        steps=steps,
        learning_rate=lr,
        batch=batch,
        accumulation=accumulation,
        lora=not full,
        seed=seed,
        precision=precision,  # type: ignore[arg-type]  # checked by Recipe
    )
    from thresher.backends.identity import check_name
    from thresher.cli.guard import note
    from thresher.console.progress import stderr_progress
    from thresher.errors import CapabilityError, opt
    from thresher.extras import require
    from thresher.methods.needs import no_model
    from thresher.request import RunRequest
    from thresher.request.image_pixels import ImagePixels
    from thresher.selection.config import check_device, default_store
    from thresher.selection.opening import open_the_pool
    from thresher.storage.opening import open_store
    from thresher.tracking import require_tracker, tracked

    require("train", "thresher train")
    tracker = RunRequest(track=track).track  # type: ignore[arg-type]  # checked by the request
    require_tracker(tracker)
    check_device(device or "auto")
    bounds = None if image_pixels is None else ImagePixels.parse(image_pixels)
    if model is None:
        raise no_model("thresher train")
    if model.lower().startswith(("http://", "https://")):
        raise CapabilityError(
            f" is behind a server, and training needs weights. Give a folder or a "
            f"hub id, or {opt('model', 'demo')}.",
            option="model",
            value=model,
        )
    if merge and full:
        note("--full trains the whole model: --merge has nothing to do.")
    check_name(model)
    kept = open_store(default_store() if store is None else store)
    pool = open_the_pool(
        *(subset, images, kept, note),
        trust_paths=bool(trust_paths),
        video_frames=video_frames,
    )
    settings = {"pool": subset, "model": model, "out": out, "recipe": asdict(recipe)}
    with tracked(tracker, Path(out).resolve().name, settings, note) as tracking:
        trained = fit(
            model,
            pool,
            None,
            recipe,
            Path(out),
            device=device or "auto",
            progress=tracking.progress(stderr_progress()),
            merge=merge,
            trust_remote_code=bool(trust_remote_code),
            cache=kept.root / "models",
            image_pixels=bounds,
        )
        tracking.summary(_counts(trained))
    _show(trained)


def _counts(trained: TrainingResult) -> dict[str, float]:
    """Numbers of a finished training for a tracker."""
    begin, end = _first_and_last_losses(trained)
    return {
        "counts/rows": trained.rows,
        "counts/failed": len(trained.unusable),
        "counts/untried": trained.untried,
        "counts/steps": len(trained.losses),
        "seconds/training": trained.seconds,
        "learning_rate": trained.learning_rate,
        "loss/beginning": begin,
        "loss/end": end,
    }


def _first_and_last_losses(trained: TrainingResult) -> tuple[float, float]:
    """Mean losses of the first and of the last tenth of the steps."""
    losses = trained.losses
    tenth = max(len(losses) // 10, 1)
    return sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth


def _show(trained: TrainingResult) -> None:
    from thresher.cli.guard import note
    from thresher.console.formatting import format_duration, pluralize
    from thresher.console.printing import say, stdout

    console = stdout()
    if trained.unusable:
        first = trained.unusable[0]
        note(
            f"{len(trained.unusable):,} of {trained.rows:,} rows could not be trained on; they "
            f"are listed in {trained.folder}/failures.jsonl. The first is row {first.row} (id "
            f"{first.id or 'none'}): {first.error}"
        )
    if trained.untried:
        note(
            f"{trained.untried:,} of {trained.rows:,} rows were not tried: "
            f"{pluralize(len(trained.losses), 'step')} did not reach them. Some of them may be "
            "unusable as well."
        )
    begin, end = _first_and_last_losses(trained)
    if trained.steps == 0:
        say(console, f"{trained.folder} holds this training already: nothing to do.", markup=False)
    say(
        console,
        f"{pluralize(len(trained.losses), 'step')} on {pluralize(trained.trained_rows)} in "
        f"{format_duration(trained.seconds)} at a learning rate of {trained.learning_rate:g}. "
        f"Training loss {begin:.3f} at the beginning, {end:.3f} at the end.",
    )
    say(console, f"Use it: --model {trained.folder}", markup=False)
