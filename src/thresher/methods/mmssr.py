"""mmSSR: which capabilities a row trains and in which style it asks, and a round-robin sampler over
both.

Lyu et al., "Cream of the Crop", arXiv:2503.13383; official code Apache-2.0. docs/methods/mmssr.md
has the prompts, the configurations and every difference. Pure arithmetic on stored columns; models
are trained by the run.

    judge             an untrained model answers the questions about every row
    scorer, styler    models that were trained for these questions answer them
    results           of the official program are read; no model is asked
    teacher           answers the questions about a sample of the pool; scorer and styler are
                      trained on its answers and then answer for every row; a fifth of the sample
                      is held out to measure how well they agree with the teacher

Differs from the official code: the capabilities have a fixed order, a capability without remaining
rows is dropped, scores are expectations and hence have few ties, ties are broken by a seeded hash,
all questions about a row share one pass.

Longer than 400 lines because a method is one file: settings, columns, choice and explanation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from thresher.errors import ConfigError, did_you_mean, opt
from thresher.methods.explanation import Counts, Evidence, Explanation, MeanScores
from thresher.methods.mmssr_notes import (
    agreement,
    explain_rows,
    health,
    results_notes,
    taken_notes,
)
from thresher.methods.needs import require_embedder, require_model
from thresher.methods.settings import setting
from thresher.samplers import RoundRobin, round_robin
from thresher.signals.capabilities import CAPABILITIES, STYLES, Capability, read_capabilities
from thresher.signals.distillation import (
    ScoreExamples,
    StyleExamples,
    teacher_score,
    teacher_styles,
)
from thresher.signals.file_order import FileOrder
from thresher.signals.judge import Judge
from thresher.signals.official_results import (
    STYLE,
    OfficialScore,
    OfficialStyles,
    ResultFile,
    result_files,
    written_styles,
)
from thresher.signals.skill_labels import skill_columns, skill_reasons
from thresher.signals.skills import balanced_groups
from thresher.signals.style import Style, WrittenStyles, listed_styles
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
    DistillationExamples,
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
NOT_HELPFUL = 0.5  # an expected score up to this rounds to 0, "not helpful"


@dataclass(frozen=True)
class Mmssr:
    """Capabilities take turns; in a turn, each group of rows (style and source, or style and skill)
    gives its best row, smallest group first.

    Best first: in the order in which rows are taken.
    """

    judge: str = setting(
        "model",
        "who answers the questions: model (the main model), or another folder, hub id or URL",
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
        "a strong model (folder, hub id, URL); scorer and styler are trained on its answers about "
        "a sample",
        role=True,
    )
    results: str | None = setting(
        None,
        "a folder with results of the official program (CAPABILITY.jsonl, style.jsonl); no model "
        "is asked",
    )
    teacher_fraction: float = setting(
        0.02, "share of the pool that the teacher answers for, at most 0.15"
    )
    teacher_answers: Literal["likelihood", "generate"] = setting(
        "likelihood",
        "how the teacher answers: by likelihood, or as generated text, which needs no "
        "log-probabilities",
    )
    capabilities: str = setting(
        "all", "names separated by commas; all: the built-in ones and those of capability_file"
    )
    weights: str | None = setting(
        None, "rows per turn relative to the other capabilities, as name:2,name:0.5"
    )
    capability_file: str | None = setting(
        None, "a YAML file with further capabilities, as name: definition"
    )
    group_by: Literal["style+source", "style"] = setting(
        "style+source", "what defines a group of rows"
    )
    balance: Literal["none", "skill"] = setting(
        "none",
        "skill: groups are of one style and skill, in place of one style and source",
    )
    threshold: float | None = setting(
        None,
        "a capability takes only rows with a higher score, 0 to 5; none: 0, or 0.5 for expected "
        "scores",
    )
    score: Literal["expected", "argmax", "generate"] = setting(
        "expected",
        "expected: mean over the answers 0 to 5; argmax: the most likely; generate: as generated",
    )
    style: Literal["auto", "likelihood", "generate"] = setting(
        "auto", "how styles are read; auto: generated if a styler is given, else by likelihood"
    )
    compat: Literal["none", "official"] = setting(
        "none", "official: ties, multi-style rows and results as in the authors' code"
    )
    train: Literal["lora", "full"] = setting(
        "lora", "how scorer and styler are trained: LoRA adapters, or all weights"
    )
    epochs: float = setting(1.0, "epochs of these trainings; small samples need more")
    steps: int | None = setting(
        None, "optimiser steps of each training, instead of epochs; none: by epochs"
    )
    learning_rate: float | None = setting(
        None, "learning rate of these trainings; none: the trainer's default"
    )

    name: ClassVar[str] = "mmssr"
    paper: ClassVar[str] = "Lyu et al., Cream of the Crop (mmSSR), arXiv:2503.13383"
    summary: ClassVar[str] = (
        "Scores 14 capabilities and names styles; takes rows for each capability and style in turn."
    )

    def __post_init__(self) -> None:
        self._check_roles()
        if not 0 < self.teacher_fraction <= 0.15:
            raise ConfigError(
                f": above 0 and at most 0.15, such "
                "as 0.02. For a larger share of the pool, use the teacher as the judge: "
                f"{opt('settings.judge')}",
                option="settings.teacher_fraction",
                value=self.teacher_fraction,
            )
        if self.threshold is not None and not 0 <= self.threshold < 5:
            raise ConfigError(
                ": from 0 to below 5; scores go from 0 to 5.",
                option="settings.threshold",
                value=self.threshold,
            )
        if self.epochs <= 0:
            raise ConfigError(": above 0, such as 1.", option="settings.epochs", value=self.epochs)
        if self.steps is not None and self.steps < 1:
            raise ConfigError(
                ": at least 1, such as 300, or none.", option="settings.steps", value=self.steps
            )
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ConfigError(
                ": above 0, such as 2e-4, or none.",
                option="settings.learning_rate",
                value=self.learning_rate,
            )
        if self.balance == "skill" and self.group_by == "style":
            raise ConfigError(
                ": skills take the place of sources in the groups, and "
                "group_by=style has none. Leave one of the two out.",
                option="settings.balance",
                value="skill",
            )
        self._weight(self._capabilities())  # raises ConfigError for unknown names

    def _check_roles(self) -> None:
        configurations = {
            "judge": self.judge != "model",
            "scorer and styler": self.scorer is not None or self.styler is not None,
            "teacher": self.teacher is not None,
            "results": self.results is not None,
        }
        given = [name for name, is_given in configurations.items() if is_given]
        if len(given) > 1:
            raise ConfigError(
                f" was given {' and '.join(given)}. Give one: judge (a model as it "
                "is), scorer and styler (trained models), teacher (they are trained from its "
                "answers), or results (of the official program).",
                option="method",
                value="mmssr",
            )
        for role, other in (("scorer", "styler"), ("styler", "scorer")):
            if getattr(self, role) is not None and getattr(self, other) is None:
                raise ConfigError(
                    f": a {other} is needed as well. Add "
                    f"{opt(f'settings.{other}')}; it may be the same model.",
                    option=f"settings.{role}",
                    value=getattr(self, role),
                )
        for name in ("judge", "scorer", "styler", "teacher", "results"):
            if getattr(self, name) == "":
                raise ConfigError(
                    ": a folder is expected."
                    if name == "results"
                    else ": a folder, a hub id or a server's URL is expected.",
                    option=f"settings.{name}",
                    value="",
                )

    # ------------------------------------------------------------------------------------- signals

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        """`score_NAME` for each capability, `style_0` … or `styles`; with a teacher also
        `teacher_…` and `sample`; with compat=official `order`; with balance=skill `skills` and
        `skill`, of the embedder."""
        found = dict(self._asked(context) if self.results is None else self._imported())
        if self.compat == "official":
            found["order"] = FileOrder()
        if self.balance == "skill":
            found |= skill_columns(require_embedder(context, self.name))
        return found

    def _asked(self, context: MethodContext) -> Mapping[str, Signal]:
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

        def trained(examples: DistillationExamples) -> TrainedModel:
            return TrainedModel(base, recipe, Learned(sample), examples)

        scorer = trained(ScoreExamples(tuple(scores.values())))
        styler = trained(StyleExamples(tuple(styles.values()), one_by_one=self.style != "generate"))  # type: ignore[arg-type]
        found: dict[str, Signal] = {"sample": sample}
        found.update({f"teacher_{name}": signal for name, signal in scores.items()})
        found.update({f"teacher_{name}": signal for name, signal in styles.items()})
        found.update(self._columns(scorer, styler))
        return found

    def _imported(self) -> dict[str, Signal]:
        assert self.results is not None
        files = result_files(self.results)
        found: dict[str, Signal] = {
            f"score_{c.name}": OfficialScore(ResultFile.of(files[c.name]), self.official)
            for c in self._capabilities()
        }
        found["styles"] = OfficialStyles(ResultFile.of(files[STYLE]))
        return found

    @property
    def official(self) -> bool:
        return self.compat == "official"

    def _writes_styles(self, styler: AnyModel) -> bool:
        """Whether styles are generated: a trained styler writes lists, and a server cannot give the
        likelihood of a whole style."""
        served = isinstance(styler, ModelIdentity) and styler.served
        return self.style == "generate" or (
            self.style == "auto" and (self.styler is not None or served)
        )

    def _columns(self, scorer: AnyModel, styler: AnyModel) -> dict[str, Signal]:
        found: dict[str, Signal] = {}
        for c in self._capabilities():
            found[f"score_{c.name}"] = (
                WrittenScore(scorer, c) if self.score == "generate" else Judge(scorer, c)
            )
        if self._writes_styles(styler):
            found["styles"] = WrittenStyles(styler)
        else:
            if isinstance(styler, ModelIdentity) and styler.served:
                raise ConfigError(
                    ": a model behind a server cannot give the probability "
                    "of a whole style. Leave style out: styles are then generated.",
                    option="settings.style",
                    value="likelihood",
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
        for c in self._capabilities():
            ask = TeacherWrittenScore if written else TeacherJudge
            scores[f"score_{c.name}"] = ask(teacher, c, sample=sample)
        if written or teacher.served:
            return scores, {"styles": TeacherWrittenStyles(teacher, sample=sample)}
        return scores, {
            f"style_{k}": TeacherStyle(teacher, s, sample=sample) for k, s in enumerate(STYLES)
        }

    def _capabilities(self) -> tuple[Capability, ...]:
        """The capabilities in the order of their turns: the built-in order, then the file's,
        however the setting orders them; of official results under compat=official, the setting's
        order."""
        own = (
            read_capabilities(Path(self.capability_file).expanduser())
            if self.capability_file is not None
            else ()
        )
        known = {c.name: c for c in (*CAPABILITIES, *own)}
        if self.results is not None:  # those that have a file
            names = [name for name in result_files(self.results) if name != STYLE]
            known |= {n: Capability(n, n.replace("_", " ")) for n in names if n not in known}
            known = {n: c for n, c in known.items() if n in names}
        if self.capabilities.strip() == "all":
            return tuple(known.values())
        requested = [
            self._resolve_name(name, list(known), "capabilities")
            for name in self.capabilities.split(",")
        ]
        twice = sorted({name for name in requested if requested.count(name) > 1})
        if twice:
            raise ConfigError(
                f": {twice[0]} is named twice.",
                option="settings.capabilities",
                value=self.capabilities,
            )
        if self.results is not None and self.official:
            return tuple(known[name] for name in requested)
        return tuple(c for name, c in known.items() if name in requested)

    def _resolve_name(self, text: str, known: list[str], key: str) -> str:
        name = text.strip()
        if name not in known:  # a capability of one's own may be called "ocr"
            name = ALIASES.get(name, name)
        if name not in known:
            raise ConfigError(
                f": there is no capability "
                f"{name!r}.{did_you_mean(name, known)} Available: {', '.join(known)}.",
                option=f"settings.{key}",
                value=getattr(self, key),
            )
        return name

    def _weight(self, capabilities: tuple[Capability, ...]) -> list[float]:
        weight = {c.name: 1.0 for c in capabilities}
        seen: list[str] = []
        for part in (self.weights or "").split(",") if self.weights else []:
            name, colon, text = part.partition(":")
            name = self._resolve_name(name, list(weight), "weights")
            try:
                value = float(text) if colon else math.nan
            except ValueError:
                value = math.nan
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(
                    f": {part.strip()!r} should be name:number, above 0.",
                    option="settings.weights",
                    value=self.weights,
                )
            if name in seen:
                raise ConfigError(
                    f": {name} is named twice.", option="settings.weights", value=self.weights
                )
            seen.append(name)
            weight[name] = value
        return list(weight.values())

    # ------------------------------------------------------------------------------------ selection

    @property
    def min_score(self) -> float:
        """The score above which a row may be taken. An expected score is never exactly 0; up to 0.5
        it rounds to 0."""
        if self.threshold is not None:
            return self.threshold
        expected = self.score == "expected" and self.results is None
        return NOT_HELPFUL if expected and not self.official else 0.0

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        capabilities = self._capabilities()
        field = "best" if self.score == "argmax" and self.results is None else "score"
        scores = [np.asarray(columns[f"score_{c.name}"][field], np.float32) for c in capabilities]
        bits = self._bits(columns, "")
        styles, names, listed = self._styles(columns, bits)
        if self.official and self.results is not None:  # rows without a style are in no group
            scores = [np.where(styles[:, -1], np.nan, s).astype(np.float32) for s in scores]
        group, group_names = self._groups(columns)
        # the official program knows its table's order only
        order = np.argsort(columns["order"]["row"], kind="stable") if self.official else None
        taken = round_robin(
            scores if order is None else [s[order] for s in scores],
            styles if order is None else styles[order],
            min(budget, len(columns)),
            columns.ties,
            source=group if order is None or group is None else group[order],
            names=(names, group_names),
            threshold=self.min_score,
            weights=self._weight(capabilities),
            official=self.official,
            listed=listed if order is None or listed is None else listed[order],
        )
        if order is not None:
            taken = taken.reordered(order)
        capability_names = tuple(c.name for c in capabilities)
        imported = self.results is not None
        notes = health(columns, capability_names, ~styles[:, -1], imported=imported)
        if self.results is not None:
            notes += results_notes(columns, capability_names)
        if self.teacher is not None:
            notes += agreement(
                columns, capability_names, scores, bits, self._bits(columns, "teacher_")
            )
        notes += taken_notes(
            taken,
            capability_names,
            budget,
            self.min_score,
            any_score=bool(np.isfinite(scores).any()),
        )
        return Selection(
            taken.rows,
            self._reason(columns, capabilities, scores, styles, names, taken),
            tuple(notes),
        )

    def _styles(
        self, columns: Columns, bits: np.ndarray
    ) -> tuple[np.ndarray, tuple[str, ...], np.ndarray | None]:
        """The styles of the rows, bool [n, s]; their names, the last one for rows without a style;
        and, where lists were written and compat=official needs it, the place of each style in the
        row's list, int [n, s]."""
        names: tuple[str, ...] = (*STYLES, NO_STYLE)
        if not self.official or "styles" not in columns.values:
            each = [(bits >> k & 1).astype(bool) for k in range(len(STYLES))]
            return np.stack([*each, bits == 0], axis=1), names, None
        texts = columns["styles"]["text"].tolist()
        lists: list[list[int]]
        if self.results is None:
            lists = [listed_styles(str(t)) for t in texts]
        else:  # any text is a style there
            written = [written_styles(t) if t else [] for t in texts]
            names = (*sorted({style for row in written for style in row}), NO_STYLE)
            number = {style: k for k, style in enumerate(names)}
            lists = [[number[style] for style in row] for row in written]
        listed = np.full((len(texts), len(names)), -1, np.int16)
        for row, places in enumerate(lists):
            for place, k in enumerate(places or [len(names) - 1]):
                listed[row, k] = place
        return listed >= 0, names, listed

    def _groups(self, columns: Columns) -> tuple[np.ndarray | None, tuple[str, ...]]:
        """What parts the rows of a style: int [n] or None, and the names of the groups."""
        if self.balance == "skill":
            group = balanced_groups(columns, "skill", np.arange(len(columns)))
            assert group is not None
            labels = columns["skill"]["label"]
            numbers, first = np.unique(group, return_index=True)
            names = [""] * (int(numbers.max(initial=-1)) + 1)
            for number, row in zip(numbers.tolist(), first.tolist(), strict=True):
                names[number] = str(labels[row])
            return group, tuple(names)
        if self.group_by == "style":
            return None, ("",)
        return columns.source, columns.source_names

    def _bits(self, columns: Columns, prefix: str) -> np.ndarray:
        """int32 [n]; bit k: the row has style k."""
        if f"{prefix}styles" in columns.values:
            return teacher_styles([columns[f"{prefix}styles"]])
        return teacher_styles([columns[f"{prefix}style_{k}"] for k in range(len(STYLES))])

    def _reason(
        self,
        columns: Columns,
        capabilities: tuple[Capability, ...],
        scores: list[np.ndarray],
        styles: np.ndarray,
        names: tuple[str, ...],
        taken: RoundRobin,
    ) -> dict[str, np.ndarray]:
        """The reasons, each [n].

        capability: that took the row, or "".
        style: of the group that gave the row, or its first style.
        score: of that capability, or the row's highest.
        round: of the turns; -1: not taken.
        """
        n = len(columns)
        table = np.stack(scores, axis=1)
        best = np.where(np.isnan(table), -np.inf, table).max(axis=1, initial=-np.inf)
        own = table[np.arange(n), np.maximum(taken.capability, 0)] if n else best
        style = np.where(taken.style >= 0, taken.style, styles.argmax(axis=1))
        reason = {
            "capability": np.array([*(c.name for c in capabilities), ""])[taken.capability],
            "score": np.where(
                taken.capability >= 0, own, np.where(np.isfinite(best), best, np.nan)
            ).astype(np.float32),
            "style": np.array(names)[style],
            "round": taken.round,
        }
        reason.update(
            {f"score_{c.name}": score for c, score in zip(capabilities, scores, strict=True)}
        )
        if self.balance == "skill":
            reason |= skill_reasons(columns)
        if self.teacher is not None:
            sample = columns["sample"]
            part = np.asarray(sample["chosen"], np.int64) + np.asarray(sample["held_out"], np.int64)
            reason["teacher_sample"] = np.array(["", "learned", "held out"])[part]
            for c in capabilities:
                reason[f"teacher_{c.name}"] = teacher_score(columns[f"teacher_score_{c.name}"])
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
