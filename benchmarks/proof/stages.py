"""What the proof compares: methods with their settings, stage by stage.

To add a method, add a line; only its cells are then computed. Methods use their defaults, except
winnow: its guard is off, because it would replace a losing selection by the random one that it is
compared with, and `winnow` trusts the model's own loss (trust=base).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.proof.mixes import CONTROL, MIXES, OWN_MIX
from benchmarks.proof.words import WordsWinnow

from thresher.compare import Equal
from thresher.methods import load
from thresher.types import Method

Named = Mapping[str, tuple[str, dict[str, str]]]
"""Name in the tables -> method and settings."""
Page = Literal["proof", "winnow", "winnow_parts"]
"""A page of docs/results. The stages of one are never needed to write the other."""


def plain(*names: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Methods with their defaults."""
    return {name: (name, {}) for name in names}


METHODS = plain("random", "stratified", "length", "perplexity", "clipper", "mllm_selector", "mmssr")
ABLATIONS: Named = {
    "clipper prefer=none": ("clipper", {"prefer": "none"}),
    "clipper balance=source": ("clipper", {"balance": "source"}),
    "clipper mirror=one_shot": ("clipper", {"mirror": "one_shot"}),
    "mllm_selector alpha=0": ("mllm_selector", {"alpha": "0"}),
    "mllm_selector balance=none": ("mllm_selector", {"balance": "none"}),
}
TAUGHT: Named = {
    # the teacher (hidden labels) scores a tenth of the rows; models distilled from it score the
    # others. Number of steps: by agreement with the teacher on held-out rows of a pool of another
    # seed (300: 0.11, 1000: 0.36)
    "mmssr, taught": (
        "mmssr",
        {"teacher": "labels", "teacher_fraction": "0.1", "train": "full", "steps": "1000"},
    ),
}
JUDGED: Named = {
    # the hidden labels score every row: mmSSR's sampler with a perfect judge
    "oracle: mmssr, judged right": ("mmssr", {"judge": "labels"}),
    "oracle: mmssr, judged right, threshold=0": ("mmssr", {"judge": "labels", "threshold": "0"}),
}
AIMED: Named = {
    # a rule-based teacher that sees every scene finds the mistakes of the untuned base model on
    # validation questions and names the skills
    "oracle: error_driven, taught right": (
        "error_driven",
        {"teacher": "rules", "ask": "plain", "max_new_tokens": "64"},
    ),
}
ORACLES = ("oracle: balanced", "oracle: clean", "oracle: balanced, clean")

WINNOW = {"guard": "off", "trust": "base"}
WORDS = "words"  # the method of words.py


def _winnow(**settings: str) -> tuple[str, dict[str, str]]:
    return "winnow", {**WINNOW, **settings}


THIRD: Named = {"winnow": _winnow(), **plain("visnec")}
DICS = plain("dics")
PARTS: Named = {
    "winnow": _winnow(),
    "keep=1": _winnow(keep="1"),
    "power=0": _winnow(power="0"),
    "keep=1 power=0": _winnow(keep="1", power="0"),
    "words instead of states": (WORDS, dict(WINNOW)),
    "power=1": _winnow(power="1"),
    "keep=0.7": _winnow(keep="0.7"),
    "leaves=100": _winnow(leaves="100"),
    "leaves=400": _winnow(leaves="400"),
    "layer=0": _winnow(layer="0"),
    "layer=1": _winnow(layer="1"),
    "image_gain": _winnow(image_gain="true"),
}
BY_SKILL: Named = {
    "clipper balance=skill": ("clipper", {"balance": "skill"}),
    "mllm_selector balance=skill": ("mllm_selector", {"balance": "skill"}),
}

VARIANTS: Named = {
    **THIRD,
    **PARTS,
    **DICS,
    "trust=seed": _winnow(trust="seed"),
    "trust=auto": _winnow(trust="auto"),
    "dics warmup=off": ("dics", {"warmup": "off"}),
}
"""Of the other benchmarks of winnow."""

LONG = 225
"""Steps of one pass over 30% of a pool: three over 10% take as many."""

FAULTY = tuple(name for name in MIXES if name not in (CONTROL.name, OWN_MIX.name))
FOUR = (*FAULTY, CONTROL.name)
FIVE = (*FOUR, OWN_MIX.name)


@dataclass(frozen=True)
class Stage:
    """A comparison on each of its pools; without methods: what `signals` measures, no training.

    what: for the list of missing cells.
    score: "generate", or "both" to score by candidate likelihood too.
    few: with the smaller number of seeds.
    steps: number of steps of every training, whatever its rows; None: one pass over them.
    """

    name: str
    what: str
    methods: Named
    budgets: tuple[str, ...] = ("10%",)
    pools: tuple[str, ...] = FOUR
    page: Page = "proof"
    oracles: tuple[str, ...] = ()
    full: bool = False
    equal: Equal = "epochs"
    steps: int | None = None
    score: str = "both"
    few: bool = False


def _third(
    name: str,
    what: str,
    methods: Named,
    budgets: tuple[str, ...] = ("10%",),
    pools: tuple[str, ...] = FOUR,
    *,
    page: Page = "winnow",
    steps: int | None = None,
    few: bool = False,
) -> Stage:
    """A stage of the third edition."""
    return Stage(name, what, methods, budgets, pools, page, steps=steps, score="generate", few=few)


OTHERS = ("5%", "30%")
STAGES = (
    Stage("ten", "10% and full", METHODS, oracles=ORACLES, full=True),
    Stage("judged", "mmSSR judged by the labels", JUDGED),
    Stage("aimed", "error-driven with the labels", AIMED),
    Stage("taught", "mmSSR with a teacher", TAUGHT, pools=FAULTY, few=True),
    Stage("ablations", "parts at 10%", ABLATIONS, pools=FAULTY, few=True),
    Stage("others", "5% and 30%", METHODS, OTHERS, oracles=ORACLES, score="generate"),
    Stage(
        "steps",
        "equal steps",
        plain("random", "clipper", "mllm_selector"),
        pools=FAULTY,
        oracles=ORACLES[-1:],
        equal="steps",
        score="generate",
        few=True,
    ),
    _third("winnow", "winnow and visnec at 10%", THIRD, pools=FIVE),
    _third("dics", "dics at 10%", DICS, pools=FIVE),  # apart: it trains a model for each seed
    _third("sizes", "5% and 30%", {**THIRD, **DICS}, OTHERS, FIVE),
    _third("long", "equal steps", THIRD, steps=LONG, few=True),
    _third("by_skill", "balance=skill", BY_SKILL, page="winnow_parts"),
    _third("signals", "signals", {}, pools=FIVE, page="winnow_parts"),
    _third("parts", "parts of winnow", PARTS, pools=FAULTY, page="winnow_parts", few=True),
)


def stages_of(pool: str) -> tuple[Stage, ...]:
    return tuple(s for s in STAGES if pool in s.pools)


def methods_of(stage: Stage, oracles: Mapping[str, Method]) -> dict[str, Method]:
    """The methods of a stage, by their name in the tables. `oracles`: by name, at least its own."""
    return {
        **{name: make(*named) for name, named in stage.methods.items()},
        **{name: oracles[name] for name in stage.oracles},
    }


def made(*variants: str) -> dict[str, Method]:
    """Random, and those of VARIANTS by their name."""
    return {"random": load("random")} | {name: make(*VARIANTS[name]) for name in variants}


def make(name: str, settings: Mapping[str, str]) -> Method:
    """A method of thresher, or of the proof. Raises ConfigError."""
    if name == WORDS:
        return WordsWinnow(**settings)  # type: ignore[arg-type]
    return load(name, settings)


def of_page(page: Page) -> tuple[str, ...]:
    """The names of its stages."""
    return tuple(s.name for s in STAGES if s.page == page)


def pools_of(page: Page, pools: Sequence[str]) -> tuple[str, ...]:
    """Those of the pools that a stage of the page has."""
    return tuple(p for p in pools if any(s.page == page for s in stages_of(p)))
