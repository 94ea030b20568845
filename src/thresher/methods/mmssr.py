"""mmSSR: what capabilities a row trains and in which style it asks, and a sampler that serves all
of them in turns.

Lyu et al., "Cream of the Crop", arXiv:2503.13383; official code Apache-2.0. docs/methods/mmssr.md
has the prompts, the ways in and every difference. Pure arithmetic on stored columns; models are
trained by the run.

    judge             a model used as it is answers the questions about every row
    scorer, styler    models that were trained for the questions do
    teacher           is asked about a sample of the pool; scorer and styler are trained on its
                      answers and then asked about
                      every row; a fifth of the sample is held out to measure how well they agree
                      with the teacher

Differs from the official code: the capabilities have a fixed order, one that has no row left is
dropped, scores are expectations and hence have few ties, ties are broken by a seeded hash, all
questions about a row are one pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from thresher.errors import ConfigError, did_you_mean
from thresher.methods.explanation import Counts, Evidence, Explanation, MeanScores
from thresher.methods.mmssr_notes import agreement, explain_rows, health, told
from thresher.methods.needs import require_model
from thresher.methods.settings import setting
from thresher.samplers import RoundRobin, round_robin
from thresher.signals.capabilities import CAPABILITIES, STYLES, Capability, read_capabilities
from thresher.signals.judge import Judge
from thresher.signals.lessons import ScoreLessons, StyleLessons, taught_bits, taught_score
from thresher.signals.style import Style, WrittenStyles
from thresher.signals.teacher import (
    TeacherJudge,
    TeacherStyle,
    TeacherWrittenScore,
    TeacherWrittenStyles,
)
from thresher.signals.teacher_sample import Learned, TeacherSample
from thresher.signals.written_score import WrittenScore
from thresher.training.recipe import Recipe
from thresher.types import (
    AnyModel,
    Columns,
    Lessons,
    MethodContext,
    ModelIdentity,
    Selection,
    Signal,
    TrainedModel,
)

ALIASES = {
    "ocr": "optical_character_recognition",
    "icl": "in_context_learning",
    "stem": "stem_knowledge",
}
NO_STYLE = "no known style"
USELESS = 0.5  # an expected score of at most this much rounds to 0, "not helpful"


@dataclass(frozen=True)
class Mmssr:
    """The capabilities take turns; in a turn the groups (style and source) give their best rows,
    smallest group first.

    Best first: in the order in which rows are taken.
    """

    judge: str = setting(
        "model",
        "who answers: model (that of --model, as it is), or another folder, hub id or URL",
        role=True,
    )
    scorer: str | None = setting(
        None, "a model trained to score capabilities: a folder or hub id; needs a styler", role=True
    )
    styler: str | None = setting(
        None, "a model trained to name styles; may be the scorer", role=True
    )
    teacher: str | None = setting(
        None,
        "a strong model (folder, hub id, URL) from whose answers on a sample scorer and styler "
        "are trained",
        role=True,
    )
    teacher_fraction: float = setting(
        0.02, "part of the pool that the teacher is asked about, at most 0.15"
    )
    teacher_answers: Literal["likelihood", "generate"] = setting(
        "likelihood",
        "how the teacher's answers are read; generate: as it writes them, without "
        "log-probabilities",
    )
    capabilities: str = setting(
        "all", "names separated by commas; all: the built-in ones and those of capability_file"
    )
    weights: str | None = setting(
        None, "larger turns for some, as name:2,name:0.5; 1 for the others"
    )
    capability_file: str | None = setting(
        None, "a YAML file of further capabilities: name: definition"
    )
    group_by: Literal["style+source", "style"] = setting(
        "style+source", "what makes a group of rows"
    )
    threshold: float | None = setting(
        None,
        "only rows with a higher score are taken for a capability, 0 to 5; none: 0, which for "
        "expected scores is 0.5",
    )
    score: Literal["expected", "argmax", "generate"] = setting(
        "expected",
        "expected: mean over the answers 0 to 5; argmax: the likeliest; generate: as written",
    )
    style: Literal["auto", "likelihood", "generate"] = setting(
        "auto", "how styles are read; auto: as written where a styler is given, else by likelihood"
    )
    compat: Literal["none", "official"] = setting(
        "none", "official: ties and multi-style rows as in the authors' code"
    )
    train: Literal["lora", "full"] = setting(
        "lora", "what the trainings of scorer and styler change: adapters, or all"
    )
    epochs: float = setting(1.0, "passes of these trainings; small samples need more")
    steps: int | None = setting(
        None, "optimiser steps of each, whatever the number of lessons; none: by epochs"
    )
    learning_rate: float | None = setting(None, "of these trainings; none: the trainer's default")

    name: ClassVar[str] = "mmssr"
    paper: ClassVar[str] = "Lyu et al., Cream of the Crop (mmSSR), arXiv:2503.13383"
    summary: ClassVar[str] = (
        "Scores 14 capabilities and names styles; serves every capability and style in turns."
    )

    def __post_init__(self) -> None:
        self._check_ways_in()
        if not 0 < self.teacher_fraction <= 0.15:
            raise ConfigError(
                f"--set teacher_fraction={self.teacher_fraction}: above 0 and at most 0.15, such "
                "as 0.02. A teacher that is to be asked about more of the pool can be its judge: "
                "--set judge=…"
            )
        if self.threshold is not None and not 0 <= self.threshold < 5:
            raise ConfigError(
                f"--set threshold={self.threshold}: from 0 to below 5; scores go from 0 to 5."
            )
        if self.epochs <= 0:
            raise ConfigError(f"--set epochs={self.epochs}: above 0, such as 1.")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"--set steps={self.steps}: at least 1, such as 300, or none.")
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ConfigError(
                f"--set learning_rate={self.learning_rate}: above 0, such as 2e-4, or none."
            )
        self._weight(self._asked())  # unknown names are refused now

    def _check_ways_in(self) -> None:
        ways = {
            "judge": self.judge != "model",
            "scorer and styler": self.scorer is not None or self.styler is not None,
            "teacher": self.teacher is not None,
        }
        given = [way for way, is_given in ways.items() if is_given]
        if len(given) > 1:
            raise ConfigError(
                f"--method mmssr was given {' and '.join(given)}. Give one: judge (a model as it "
                "is), scorer and styler (trained models), or teacher (they are trained from its "
                "answers)."
            )
        for mine, other in (("scorer", "styler"), ("styler", "scorer")):
            if getattr(self, mine) is not None and getattr(self, other) is None:
                raise ConfigError(
                    f"--set {mine}={getattr(self, mine)}: a {other} is needed, too. Add --set "
                    f"{other}=PATH; it may be the same model."
                )
        for name in ("judge", "scorer", "styler", "teacher"):
            if getattr(self, name) == "":
                raise ConfigError(
                    f"--set {name}=: a folder, a hub id or a server's URL is expected."
                )

    # -------------------------------------------------------------------------------- what is asked

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        """`score_NAME` a capability, `style_0` … or `styles`; with a teacher also `teacher_…` and
        `sample`."""
        models, seed = context.roles, context.seed
        if self.teacher is None:
            if self.scorer is not None:
                return self._columns(models["scorer"], models["styler"])
            judge = models["judge"] if self.judge != "model" else require_model(context, self.name)
            return self._columns(judge, judge)
        base = require_model(context, self.name)
        sample = TeacherSample(self.teacher_fraction, seed)
        scores, styles = self._teacher(models["teacher"], sample)
        recipe = Recipe(
            epochs=self.epochs,
            steps=self.steps,
            learning_rate=self.learning_rate,
            lora=self.train == "lora",
            seed=seed,
        )

        def trained(lessons: Lessons) -> TrainedModel:
            return TrainedModel(base, recipe, Learned(sample), lessons)

        scorer = trained(ScoreLessons(tuple(scores.values())))
        styler = trained(StyleLessons(tuple(styles.values()), one_by_one=self.style != "generate"))  # type: ignore[arg-type]
        found: dict[str, Signal] = {"sample": sample}
        found.update({f"teacher_{name}": signal for name, signal in scores.items()})
        found.update({f"teacher_{name}": signal for name, signal in styles.items()})
        found.update(self._columns(scorer, styler))
        return found

    def _writes_styles(self, styler: AnyModel) -> bool:
        """A trained styler writes lists, and a server cannot give the likelihood of a whole
        style."""
        served = isinstance(styler, ModelIdentity) and styler.served
        return self.style == "generate" or (
            self.style == "auto" and (self.styler is not None or served)
        )

    def _columns(self, scorer: AnyModel, styler: AnyModel) -> dict[str, Signal]:
        found: dict[str, Signal] = {}
        for c in self._asked():
            found[f"score_{c.name}"] = (
                WrittenScore(scorer, c) if self.score == "generate" else Judge(scorer, c)
            )
        if self._writes_styles(styler):
            found["styles"] = WrittenStyles(styler)
        else:
            if isinstance(styler, ModelIdentity) and styler.served:
                raise ConfigError(
                    "--set style=likelihood: a model behind a server cannot give the probability "
                    "of a whole style. Leave style out: then it writes its styles."
                )
            found.update({f"style_{k}": Style(styler, style) for k, style in enumerate(STYLES)})
        return found

    def _teacher(
        self, teacher: ModelIdentity, sample: TeacherSample
    ) -> tuple[
        dict[str, TeacherJudge | TeacherWrittenScore],
        dict[str, TeacherStyle | TeacherWrittenStyles],
    ]:
        scores: dict[str, TeacherJudge | TeacherWrittenScore] = {}
        written = self.teacher_answers == "generate"
        for c in self._asked():
            ask = TeacherWrittenScore if written else TeacherJudge
            scores[f"score_{c.name}"] = ask(teacher, c, sample=sample)
        if written or teacher.served:
            return scores, {"styles": TeacherWrittenStyles(teacher, sample=sample)}
        return scores, {
            f"style_{k}": TeacherStyle(teacher, s, sample=sample) for k, s in enumerate(STYLES)
        }

    def _asked(self) -> tuple[Capability, ...]:
        """The capabilities, in the order of their turns: the built-in order, then the file's,
        whatever order was typed."""
        own = (
            read_capabilities(Path(self.capability_file).expanduser())
            if self.capability_file is not None
            else ()
        )
        known = {c.name: c for c in (*CAPABILITIES, *own)}
        if self.capabilities.strip() == "all":
            return tuple(known.values())
        wanted = [
            self._named(name, list(known), "capabilities") for name in self.capabilities.split(",")
        ]
        twice = sorted({name for name in wanted if wanted.count(name) > 1})
        if twice:
            raise ConfigError(f"--set capabilities={self.capabilities}: {twice[0]} is named twice.")
        return tuple(c for name, c in known.items() if name in wanted)

    def _named(self, typed: str, known: list[str], key: str) -> str:
        name = typed.strip()
        if name not in known:  # a capability of one's own may be called "ocr"
            name = ALIASES.get(name, name)
        if name not in known:
            raise ConfigError(
                f"--set {key}={getattr(self, key)}: there is no capability "
                f"{name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}."
            )
        return name

    def _weight(self, asked: tuple[Capability, ...]) -> list[float]:
        weight = {c.name: 1.0 for c in asked}
        weighed: list[str] = []
        for part in (self.weights or "").split(",") if self.weights else []:
            name, colon, text = part.partition(":")
            name = self._named(name, list(weight), "weights")
            try:
                value = float(text) if colon else math.nan
            except ValueError:
                value = math.nan
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(
                    f"--set weights={self.weights}: {part.strip()!r} should be name:number, above "
                    "0."
                )
            if name in weighed:
                raise ConfigError(f"--set weights={self.weights}: {name} is named twice.")
            weighed.append(name)
            weight[name] = value
        return list(weight.values())

    # -------------------------------------------------------------------------------- what is taken

    @property
    def least(self) -> float:
        """The score above which a row may be taken. An expected score is never 0: half a point is
        what rounds to it."""
        if self.threshold is not None:
            return self.threshold
        return USELESS if self.score == "expected" and self.compat == "none" else 0.0

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        asked = self._asked()
        field = "best" if self.score == "argmax" else "score"
        scores = [np.asarray(columns[f"score_{c.name}"][field], np.float32) for c in asked]
        bits = self._bits(columns, "")
        styles = np.stack(
            [(bits >> k & 1).astype(bool) for k in range(len(STYLES))] + [bits == 0], axis=1
        )
        names = (*STYLES, NO_STYLE)
        by_source = self.group_by == "style+source"
        taken = round_robin(
            scores,
            styles,
            min(budget, len(columns)),
            columns.ties,
            source=columns.source if by_source else None,
            names=(names, columns.source_names if by_source else ("",)),
            threshold=self.least,
            weights=self._weight(asked),
            official=self.compat == "official",
        )
        capabilities = tuple(c.name for c in asked)
        notes = health(columns, capabilities, bits)
        if self.teacher is not None:
            notes += agreement(columns, capabilities, scores, bits, self._bits(columns, "teacher_"))
        notes += told(
            taken, capabilities, budget, self.least, any_score=bool(np.isfinite(scores).any())
        )
        return Selection(
            taken.rows, self._reason(columns, asked, scores, styles, names, taken), tuple(notes)
        )

    def _bits(self, columns: Columns, prefix: str) -> np.ndarray:
        """Bit k: the row has style k; int32 [n]."""
        if f"{prefix}styles" in columns.values:
            return taught_bits([columns[f"{prefix}styles"]])
        return taught_bits([columns[f"{prefix}style_{k}"] for k in range(len(STYLES))])

    def _reason(
        self,
        columns: Columns,
        asked: tuple[Capability, ...],
        scores: list[np.ndarray],
        styles: np.ndarray,
        names: tuple[str, ...],
        taken: RoundRobin,
    ) -> dict[str, np.ndarray]:
        """`capability`, `style`: whose turn and which group took the row ("" and its first style
        where none did). `score`: by that capability, else its highest. `round`: of the turns, -1
        where not taken."""
        n = len(columns)
        table = np.stack(scores, axis=1)
        best = np.where(np.isnan(table), -np.inf, table).max(axis=1, initial=-np.inf)
        at = np.arange(n)
        own = table[at, np.maximum(taken.capability, 0)] if n else best
        style = np.where(taken.style >= 0, taken.style, styles.argmax(axis=1))
        reason = {
            "capability": np.array([*(c.name for c in asked), ""])[taken.capability],
            "score": np.where(
                taken.capability >= 0, own, np.where(np.isfinite(best), best, np.nan)
            ).astype(np.float32),
            "style": np.array(names)[style],
            "round": taken.round,
        }
        reason.update({f"score_{c.name}": score for c, score in zip(asked, scores, strict=True)})
        if self.teacher is not None:
            sample = columns["sample"]
            part = np.asarray(sample["chosen"], np.int64) + np.asarray(sample["held_out"], np.int64)
            reason["teacher_sample"] = np.array(["", "learned", "held out"])[part]
            for c in asked:
                reason[f"teacher_{c.name}"] = taught_score(columns[f"teacher_score_{c.name}"])
        return reason

    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        why = explain_rows(evidence) if evidence.has("capability", "score") else None
        if not evidence.has("capability", "style"):
            return Explanation(why)
        radar = MeanScores(
            "score_",
            "capability",
            alt="Mean score by capability, pool and kept rows.",
            caption="Mean score, 0 to 5: the value of the rows for each capability, according to "
            "the "
            "judge or scorer.",
        )
        scores = (name for name in evidence.reasons if name.startswith(("score_", "teacher_")))
        return Explanation(
            why,
            lead="Every row is scored for each capability and has a style of interaction. The "
            "capabilities take turns; in a turn the groups of style and source give their best "
            "rows.",
            drawings=(radar, Counts("style"), Counts("capability", "Taken for", kept_only=True)),
            drawn=frozenset({"capability", "style", *scores}),
        )
