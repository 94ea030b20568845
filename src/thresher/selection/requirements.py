"""The extras that a run needs, checked before it starts: a missing package must not be found after
hours of work."""

from __future__ import annotations

from thresher.errors import opt
from thresher.extras import check_models, require
from thresher.methods.needs import extras_of, models_of, needs_target, trains
from thresher.types import Method


def check_extras(
    method: Method,
    *,
    model: str | None,
    uses_model: bool,
    embedder: str | None = None,
    dedup: str | None,
    rounds: int = 1,
    extra: str = "hf",
) -> None:
    """Check the extras that a selection needs.

    Arguments:
        method: with its settings.
        model: as the user named it; None for a model behind a server.
        uses_model: whether the model is used.
        embedder: as the user named it; None: the model itself.
        dedup: None, exact, near or semantic.
        rounds: number of rounds of selecting and training.
        extra: of what runs the models: hf or vllm.

    Raises MissingExtra.
    """
    option = opt("method", method.name)
    if dedup == "near":
        require("duplicates", opt("dedup", "near"))
    if needs_target(method):
        require("duplicates", option)  # the pool is compared with the target set
    for further in extras_of(method):
        require(further, option)
    if trains(method):
        require("train", f"{option} trains a model first, which")
    if rounds > 1:
        require("train", f"{opt('rounds', rounds)} trains a model, which")
    if uses_model and model is not None:
        check_models([(model, opt("model", model))], extra)
    if embedder is not None:
        check_models([(embedder, opt("embedder", embedder))])
    further_models = models_of(method).items()
    check_models(((spec, opt(f"settings.{role}", spec)) for role, spec in further_models), extra)
