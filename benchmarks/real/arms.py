"""What the real proof compares: methods with their settings, stages, recipe.

To add a method, add a line; only its cells are then computed. Methods use their defaults, except
winnow's guard, which is off because it would replace a losing selection by the random one that it
is compared with. winnow_base trusts by the base's loss, as in the synthetic world's tables, without
measuring whether the base can judge the pool. mmssr has no judge here that could be trusted: the
base judges for itself (its default); a stronger one is a setting (`judge`). error_driven is left
out, because its teacher must be a strong model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from thresher.backends import ModelHandle
from thresher.compare import Equal, Job, make_job
from thresher.methods import load
from thresher.pools import Pool
from thresher.training.recipe import Recipe
from thresher.types import Budget

METHODS: Mapping[str, tuple[str, dict[str, str]]] = {
    "random": ("random", {}),
    "stratified": ("stratified", {}),
    "perplexity": ("perplexity", {}),
    "winnow": ("winnow", {"guard": "off"}),
    "winnow_base": ("winnow", {"guard": "off", "trust": "base"}),
    "visnec": ("visnec", {}),
    "clipper": ("clipper", {}),
    "mllm_selector": ("mllm_selector", {}),
    "dics": ("dics", {}),
    "mmssr": ("mmssr", {}),
}
STEPS_METHODS = ("random", "winnow", "clipper", "mllm_selector", "dics")
RECIPE = Recipe(batch=2, learning_rate=2e-4)
"""Chosen on development questions, random 10%, one seed: 28.8% right. Batches of 4 and 8: 25.6% and
25.4%; batches of 8 with rates of 5e-4 and 1e-4: 23.1% and 16.1%."""
SEEDS = 3
FULL_POOL = "100%"


@dataclass(frozen=True)
class Stage:
    """A comparison on every pool. equal: "epochs", one pass over each subset; "steps", see LONG."""

    name: str
    methods: tuple[str, ...]
    budgets: tuple[str, ...]
    full: bool
    equal: Equal


STAGES = (
    Stage("epochs", tuple(METHODS), ("10%", "30%"), True, "epochs"),
    Stage("steps", STEPS_METHODS, ("10%",), False, "steps"),
)
BUDGETS = (*dict.fromkeys(b for s in STAGES for b in s.budgets), FULL_POOL)
LONG = 0.3
"""Equal steps are those of one pass over this share of the pool: three over 10%."""


def stages_at(budgets: tuple[str, ...] | None) -> list[Stage]:
    """The stages that have one of these budgets; None: all."""
    return [s for s in STAGES if budgets is None or set(s.budgets) & set(budgets)]


def job_of(
    pool: Pool,
    questions: Pool,
    stage: Stage,
    model: ModelHandle,
    seeds: int,
    methods: tuple[str, ...] | None = None,
    budgets: tuple[str, ...] | None = None,
    recipe: Recipe = RECIPE,
) -> Job:
    """The comparison of a stage on a pool.

    Arguments:
        methods: only these; None: all of the stage. Random is always among them.
        budgets: only these, "100%" is the full pool; None: all of the stage.
        recipe: of the trainings; its steps are set here for equal steps.
    """
    names = [n for n in stage.methods if methods is None or n in ("random", *methods)]
    chosen = [b for b in stage.budgets if budgets is None or b in budgets]
    if stage.equal == "steps":
        recipe = replace(recipe, steps=max(round(LONG * len(pool) / recipe.batch), 1))
    return make_job(
        pool,
        questions,
        methods={name: load(*METHODS[name]) for name in names},
        budgets=[Budget.parse(b) for b in chosen],
        seeds=seeds,
        model=model,
        recipe=recipe,
        full=stage.full and (budgets is None or FULL_POOL in budgets),
        equal=stage.equal,
        score="generate",
    )
