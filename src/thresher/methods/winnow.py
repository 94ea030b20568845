"""winnow: rows with a typical loss for their skill, more from skills the model does not know yet.

Ours, without a paper; docs/methods/winnow.md describes the choices and measurements. The loss of a
wrong answer is high, but so is that of a hard question: over a whole pool the loss hardly separates
the two, within one skill it does. Pure arithmetic on stored columns.

Longer than 400 lines because a method is one file: settings, columns, choice and explanation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from thresher.console.formatting import pluralize
from thresher.errors import CapabilityError, ConfigError, opt
from thresher.extras import install_command, is_usable
from thresher.methods.explanation import Bars, Drawing, Evidence, Explanation, Histogram, Why
from thresher.methods.needs import LAYER, require_embedder, require_model
from thresher.methods.settings import setting
from thresher.samplers.trusted_strata import LEAST_ROWS, TrustedStrata, trusted_strata
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.cross_fit import CrossFittedLoss, CrossRows
from thresher.signals.guard import LEAST as GUARD_LEAST
from thresher.signals.guard import GuardRows, GuardVerdict, HeldOut
from thresher.signals.judgement import (
    HELPED,
    LEAST_IMAGES,
    IfMeasured,
    ImageSample,
    Judgement,
    RowsToJudge,
    TrustedLoss,
    bimodal_share,
)
from thresher.signals.part_loss import PartLoss
from thresher.signals.recorded import Recorded
from thresher.signals.skill_names import SkillExamples, SkillNames, named_skills
from thresher.signals.skills import skills_of
from thresher.signals.trusted_rows import TrustedRows
from thresher.signals.visual_gain import VisualGain
from thresher.stats.distinct import distinct_texts
from thresher.training.recipe import Recipe
from thresher.types import (
    Columns,
    MethodContext,
    ModelIdentity,
    Note,
    Selection,
    Signal,
    TrainedModel,
)

TRUST_NOTE = "trust"  # kind of the note with the measurement of trust=auto
FEW = 0.1  # a note is given if more than this share of rows is in small skills
BIMODAL = 0.5  # a note is given if less than this share of rows is in skills with bimodal losses
SEED_FRACTION = 0.05  # of the rows, for each of two seed models
SEED_ROWS = 500  # minimum for each seed model, or a quarter of a smaller pool
GUARD_ROWS = 1000  # maximum number of training rows of each of the guard's models
MAX_POWER = 10
MAX_ROUNDS = 5
BARS = 15  # groups of skills in the report
UNGUARDED = opt("settings.guard", "off")
_HIDDEN = frozenset({"skill", "skill_words", "loss_rank", "skill_rows", "skill_quota"})


@dataclass(frozen=True)
class Winnow:
    """Trusted rows of every skill, in proportion to its size and the root of its typical loss.

    Best first: trusted rows, then others; each in the order of a seeded hash.
    """

    keep: float = setting(
        0.5,
        "share of each skill that is trusted: the rows with the lowest loss; above 0, at most 1",
    )
    leaves: int | None = setting(None, "number of skills; none: one for every 30 rows")
    power: float = setting(
        0.5,
        "exponent of a skill's typical loss in its share of the budget, 0 to 10; 0: in proportion "
        "to its rows alone",
    )
    layer: float = setting(
        LAYER, "depth of the hidden states that are clustered, 0 (first layer) to 1 (last)"
    )
    image_gain: bool = setting(
        False,
        "trust only rows whose answer the image or video makes more likely; one more pass per row",
    )
    trust: Literal["auto", "base", "seed"] = setting(
        "auto",
        "whose loss decides what is trusted: base, the model's own; seed, that of two seed models, "
        "each trained on 5% of the rows (at least 500, or a quarter) and applied to the others, "
        "for images or videos that the model cannot read yet; auto: decided by a measurement on "
        "500 rows",
    )
    names: str | None = setting(
        None,
        "the model that writes a name for each skill, one question each: model (the run's own), "
        "a folder, a hub id or a server's URL; none: skills have their characteristic words",
        role=True,
    )
    rounds: int = setting(
        1,
        "1 to 5; in each round after the first, two models are trained on rows that the round "
        "before trusts (5% of the rows each, at least 500, or a quarter), and their losses on the "
        "other rows decide what is trusted",
    )
    guard: Literal["auto", "on", "off"] = setting(
        "auto",
        "run a small training on the selection and one on random rows, and fall back to random "
        "rows if these are better; auto: if training is installed",
    )

    name: ClassVar[str] = "winnow"
    paper: ClassVar[str] = ""
    added: ClassVar[Mapping[str, Any]] = {"rounds": 1, "names": None}  # as before these existed
    summary: ClassVar[str] = (
        "Clusters rows into skills, excludes rows with a high loss for their skill, and takes more "
        "rows from skills that the model does not know yet."
    )

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ConfigError(
                ": expected a share above 0 and at most 1, such as 0.5.",
                option="settings.keep",
                value=self.keep,
            )
        if self.leaves is not None and self.leaves < 1:
            raise ConfigError(
                ": expected at least 1, or none.", option="settings.leaves", value=self.leaves
            )
        if not 0 <= self.power <= MAX_POWER:  # beyond, weights would leave the numbers' range
            raise ConfigError(
                f": expected 0 to {MAX_POWER}, such as 0.5.",
                option="settings.power",
                value=self.power,
            )
        if not 0 <= self.layer <= 1:
            raise ConfigError(
                ": expected 0 to 1, such as 0.5.", option="settings.layer", value=self.layer
            )
        if self.names == "":
            raise ConfigError(
                ": expected model, a folder, a hub id or a server's URL.",
                option="settings.names",
                value="",
            )
        if not 1 <= self.rounds <= MAX_ROUNDS:
            raise ConfigError(
                f": expected 1 to {MAX_ROUNDS}, such as 2.",
                option="settings.rounds",
                value=self.rounds,
            )

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        model = require_model(context, self.name)
        embedder = require_embedder(context, self.name, self.layer)
        self._refuse_training(model)
        seed, decided = context.seed, context.decided
        loss, skills = AnswerLoss(model), skills_of(embedder, self.leaves, self.layer)
        named: dict[str, Signal] = {"loss": loss, "skills": skills}
        trust: Signal = loss
        gain = VisualGain(loss) if self.image_gain else None
        if gain is not None:
            named["gain"] = gain
        if self.names is not None:
            writer = model if self.names == "model" else context.roles["names"]
            named["examples"] = examples = SkillExamples(skills, self.leaves)
            named["names"] = SkillNames(writer, examples)
        if self.trust == "auto":
            without = (
                PartLoss(model, ImageSample(), image=False)
                if gain is None
                else gain.inputs()["without_image"]
            )
            judgement: Signal = Judgement(loss, without, skills)
            trained = self._can_train(model)
            if decided is not None:
                recorded = Recorded.of(judgement, decided.get("judgement", {}), "judgement")
                trained = "trust" in decided and not recorded.value("readable")
                judgement = recorded.as_signal()
            named["judgement"] = judgement
            if trained:
                fitted = _seed_loss(model, seed, judgement)
                trust = named["trust"] = TrustedLoss(judgement, loss, fitted)
        elif self.trust == "seed":
            trust = named["trust"] = _seed_loss(model, seed)
        for number in range(2, self.rounds + 1):
            first, second = (
                TrustedRows(
                    trust,
                    loss,
                    skills,
                    SEED_FRACTION,
                    seed,
                    part,
                    SEED_ROWS,
                    self.keep,
                    self.power,
                    gain,
                )
                for part in (0, 1)
            )
            trust = named[_round(number)] = _cross_fitted(model, seed, first, second)
        if self._guarded(model) if decided is None else "guard" in decided:
            rows = min(GUARD_ROWS, context.budget or GUARD_ROWS)
            held, recipe = HeldOut(seed), Recipe(seed=seed)
            ours = GuardRows(held, rows, seed, trust, loss, skills, self.keep, self.power, gain)
            selected, random = (
                PartLoss(TrainedModel(model, recipe, drawn), held)
                for drawn in (ours, GuardRows(held, rows, seed))
            )
            named["guard"] = GuardVerdict(held, selected, random, named.get("judgement"))
            if decided is not None:
                verdict = Recorded.of(named["guard"], decided["guard"], "guard")
                named["guard"] = verdict.as_signal()
        return named

    def _can_train(self, model: ModelIdentity) -> bool:
        return not model.limit and is_usable("train")

    def _guarded(self, model: ModelIdentity) -> bool:
        return self.guard == "on" or (self.guard == "auto" and self._can_train(model))

    def _refuse_training(self, model: ModelIdentity) -> None:
        """Raises CapabilityError for settings that train a model that cannot be trained here."""
        train = {
            "trust": self.trust == "seed",
            "rounds": self.rounds > 1,
            "guard": self.guard == "on",
        }
        for name, trains in train.items() if model.limit else ():
            if trains:
                raise CapabilityError(
                    f" trains models from the run's own, which {model.limit}. Leave it out, or "
                    f"give {opt('model')} with weights.",
                    option=f"settings.{name}",
                    value=getattr(self, name),
                )

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        loss = np.asarray(columns["loss"]["nll"], np.float32)
        judgement = (
            {name: values[0] for name, values in columns["judgement"].items()}
            if self.trust == "auto" and len(loss)
            else None
        )
        # which columns there are depends on what was installed when it was decided
        guarded, trained = "guard" in columns.values, "trust" in columns.values
        seeds = self.trust == "seed" or (
            judgement is not None and not judgement["readable"] and trained
        )
        first = np.asarray(columns["trust"]["nll"]) if seeds else loss  # by which round 1 trusts
        trust = first if self.rounds == 1 else np.asarray(columns[_round(self.rounds)]["nll"])
        gain = np.asarray(columns["gain"]["gain"]) if self.image_gain else None
        skills = columns["skills"]
        leaf = np.asarray(skills["leaf"], np.int64)

        def strata_by(nll: np.ndarray, k: int) -> TrustedStrata:
            return trusted_strata(
                nll,
                leaf,
                k,
                columns.ties,
                keep=self.keep,
                power=self.power,
                difficulty=None if nll is loss else loss,
                # unknown without visual input: allowed
                allowed=None if gain is None else ~(gain <= 0),
            )

        strata = strata_by(trust, budget)
        words = np.asarray(skills["words"], object)
        if self.names is not None:
            words, with_name, every = named_skills(
                leaf, words, columns["examples"]["chosen"], columns["names"]["name"]
            )
        reason = {
            "loss": loss,
            "skill": leaf.astype(np.int32),
            "skill_words": words,
            "skill_group": np.asarray(skills["parent_words"], object),
            "loss_rank": (strata.rank + 1).astype(np.int32),
            "skill_rows": strata.size[leaf].astype(np.int32),
            "skill_quota": strata.quota[leaf].astype(np.int32),
            "trusted": strata.trusted,
        }
        if seeds:
            # of rows without visual input trust=auto takes the base's loss
            own = (first == loss) & (judgement is not None)
            reason["seed_loss"] = np.where(own, np.nan, first).astype(np.float32)
        if self.rounds > 1:
            reason["round_loss"] = trust.astype(np.float32)
        if gain is not None:
            reason["image_gain"] = gain
        notes: list[str | Note] = [*_notes(strata, leaf, trust, None if judgement else gain)]
        if self.names is not None and with_name < every:
            notes.append(
                f"{every - with_name:,} of {pluralize(every, 'skill')} got no name of three to "
                "five words of their own, and keep their characteristic words."
            )
        if self.rounds > 1 and len(loss):
            notes.insert(0, _rounds_note(self.rounds, strata_by(first, 0).trusted, strata.trusted))
        if judgement is not None:
            notes.insert(0, Note(TRUST_NOTE, _judgement_note(judgement, seeds)))
        unchecked = self.guard == "auto" and not guarded
        passed = True
        if unchecked and judgement is not None and not judgement["readable"]:
            passed, notes = False, [_unread_note(judgement)]
        elif unchecked and len(loss):
            notes.append(
                "There is no guard: the selection is not compared with random rows, because "
                f"{_untrained()}."
            )
        elif guarded and len(loss):
            verdict = {name: values[0] for name, values in columns["guard"].items()}
            passed = bool(verdict["passed"])
            others = seeds or self.rounds > 1
            notes = [_guard_note(verdict, judgement, others), *(notes if passed else [])]
        rows = strata.rows
        if len(loss) and (guarded or not passed):
            reason["guard_passed"] = np.full(len(loss), passed)
        if not passed:
            rows = np.argsort(columns.ties, kind="stable")[:budget].astype(np.int64)
            reason["skill_quota"] = np.bincount(leaf[rows], minlength=len(strata.size))[leaf]
        return Selection(rows, reason, tuple(notes))

    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        if not evidence.has(
            "loss", "skill", "skill_words", "loss_rank", "skill_rows", "skill_quota", "trusted"
        ):
            return Explanation()
        r = evidence.reasons
        if evidence.has("guard_passed") and not r["guard_passed"].all():
            return Explanation(
                _explain_random(evidence),
                "Random rows are safer here than winnow's selection, as a note says, so the kept "
                "rows are a random sample. Skills and losses are for information only.",
                (Histogram("loss"), *_bars(evidence)),
                drawn=frozenset({"loss", "skill_group"} & r.keys()),
                hidden=_HIDDEN | ({"guard_passed"} & r.keys()),
            )
        untrusted = int((~r["trusted"]).sum())
        lead = (
            f"Rows are clustered into {pluralize(len(np.unique(r['skill'])), 'skill')} by the "
            "embeddings of question and answer. Inside a skill, rows with a high loss "
            f"may be wrong: {pluralize(untrusted)} are not trusted. A skill gets rows in "
            "proportion to its size and to the root of its typical loss."
        )
        drawings: tuple[Drawing, ...] = (Histogram("loss"), *_bars(evidence))
        return Explanation(
            _explain_rows(evidence),
            lead,
            drawings,
            drawn=frozenset({"loss", "skill_group"} & r.keys()),
            hidden=_HIDDEN | ({"guard_passed"} & r.keys()),
        )


def _seed_loss(model: ModelIdentity, seed: int, judgement: Signal | None = None) -> CrossFittedLoss:
    """The loss under seed models, trained on random rows.

    `judgement`: if given, they are trained and run only if the model cannot judge the pool.
    """
    first, second = (CrossRows(SEED_FRACTION, seed, part, SEED_ROWS) for part in (0, 1))
    return _cross_fitted(model, seed, first, second, judgement)


def _cross_fitted(
    model: ModelIdentity,
    seed: int,
    first: Signal,
    second: Signal,
    judgement: Signal | None = None,
) -> CrossFittedLoss:
    """The loss under two models, one trained on the rows `first` and one on `second`, of which none
    scores a row that it was trained on.

    `judgement`: if given, they are trained and run only if the model cannot judge the pool.
    """
    recipe = Recipe(seed=seed)
    if judgement is None:
        asked, asked_second = RowsToJudge(), RowsToJudge(within=first)
    else:
        sample = ImageSample()
        asked = RowsToJudge(judgement, IfMeasured(sample))
        asked_second = RowsToJudge(judgement, IfMeasured(sample, first))
    return CrossFittedLoss(
        first,
        PartLoss(TrainedModel(model, recipe, first), asked),
        PartLoss(TrainedModel(model, recipe, second), asked_second),
    )


def _round(number: int) -> str:
    """The name of a round's column."""
    return f"round{number}"


def _rounds_note(rounds: int, before: np.ndarray, after: np.ndarray) -> str:
    """A note: how much the rounds after the first changed.

    before, after: bool [n], rows that the first and the last round trust.
    """
    excluded = int((before & ~after).sum())
    share = excluded / max(int(before.sum()), 1)
    return (
        f"rounds={rounds}: models trained on trusted rows decide in the last round which rows are "
        f"trusted. Of the rows that the first round trusted, they exclude "
        f"{pluralize(excluded, 'row')} ({share:.0%})."
    )


def _helped(judgement: Mapping[str, Any], only: str = "") -> str:
    """`judgement`: the fields of `Judgement`."""
    return (
        f"the visual input makes the given answer more likely in {only}{judgement['helped']:.0%} "
        f"of {pluralize(int(judgement['images']))} without a suspicious loss"
    )


def _judgement_note(judgement: Mapping[str, Any], seeds: bool) -> str:
    """A note: what trust=auto measured, and whose loss it uses."""
    own = "the model's own loss decides which rows are trusted"
    if judgement["images"] < LEAST_IMAGES:
        return (
            f"trust=auto: fewer than {LEAST_IMAGES} rows have an image or video and no suspicious "
            f"loss, too few to measure whether the model reads images and videos; {own}."
        )
    if judgement["readable"]:
        bimodal = (
            f", and losses are bimodal in skills with {judgement['humped']:.0%} of the rows"
            if judgement["humped"] >= BIMODAL
            else ""
        )
        return (
            f"trust=auto: {_helped(judgement)} (at least {HELPED:.0%} are needed){bimodal}; {own}."
        )
    unread = (
        f"trust=auto: {_helped(judgement, 'only ')} (at least {HELPED:.0%} are needed). The model "
        "seems unable to read it, so a high loss may mean hard and not wrong"
    )
    if seeds:
        return (
            f"{unread}. Therefore two models, each trained on a part of the rows and applied to "
            "the others, decide by their losses which rows are trusted."
        )
    return (
        f"{unread}. Models trained on a part of the rows could judge instead, but {_untrained()}; "
        f"{opt('method', 'random')} is safer for this pool."
    )


def _unread_note(judgement: Mapping[str, Any]) -> str:
    """A note: why random rows are selected if neither seed models nor the guard can be trained."""
    return (
        f"Random rows are selected instead of winnow's rows: {_helped(judgement, 'only ')} "
        f"(at least {HELPED:.0%} are needed). The model seems unable to read it, so its "
        f"loss does not distinguish wrong rows from hard ones. Trained models could, but "
        f"{_untrained()}. {UNGUARDED} selects winnow's rows nevertheless."
    )


def _untrained() -> str:
    """Why no model was trained, as the end of a sentence."""
    if is_usable("train"):
        return "the model cannot be trained here (it is behind a server or an adapter)"
    return f"training is not installed ({install_command('train')})"


def _guard_note(
    verdict: Mapping[str, Any], judgement: Mapping[str, Any] | None, seeds: bool
) -> str:
    """A note on the verdict.

    `verdict`: the fields of `GuardVerdict`; `judgement`: of `Judgement`, None: not measured.
    """
    rows, better, worse = (int(verdict[name]) for name in ("rows", "better", "worse"))
    if not rows:
        return (
            "The guard is skipped: comparing the selection with random rows takes at least "
            f"{5 * GUARD_LEAST} distinct rows, a fifth of which is held out."
        )
    found = (
        f"The guard trained a model on a small selection and one on random rows: of {rows:,} "
        f"held-out rows, only the former answers {better:,} as given, and only the latter "
        f"{worse:,}"
    )
    if better + worse < GUARD_LEAST:
        return (
            f"{found}. Too few answers differ for a verdict (at least {GUARD_LEAST} are needed), "
            "so the selection is kept."
        )
    if verdict["passed"]:
        return f"{found}. The selection is not significantly worse, and is kept."
    whose = "The losses of models trained on a part of the rows do" if seeds else "The loss does"
    known = (
        f" ({_helped(judgement, 'only ')})"
        if judgement is not None and not judgement["readable"]
        else ""
    )
    advice = (
        ""
        if seeds
        else f"{opt('settings.trust', 'seed')} uses models trained on a part of the rows; "
    )
    return (
        f"The guard selects random rows instead of winnow's rows: of {rows:,} held-out rows, "
        f"{better:,} are answered as given only after a small training on the selection, and "
        f"{worse:,} only after one on random rows ({_chance(verdict['chance'])} if both were "
        f"equally good). {whose} not distinguish wrong rows from hard ones here{known}. {advice}"
        f"{UNGUARDED} selects without this check."
    )


def _chance(p: float) -> str:
    """
    >>> _chance(0.0118), _chance(0.0001)
    ('p = 1.2%', 'p below 0.1%')
    """
    return f"p = {p:.1%}" if p >= 0.001 else "p below 0.1%"


def _notes(
    strata: TrustedStrata, leaf: np.ndarray, trust: np.ndarray, gain: np.ndarray | None
) -> list[str]:
    n, rows = len(leaf), strata.rows
    notes = []
    small = int((strata.size[leaf] < LEAST_ROWS).sum())
    if n and small > FEW * n:
        notes.append(
            f"{pluralize(small)} are in skills of fewer than {LEAST_ROWS} rows, too few to judge "
            "by the loss: they are drawn at random."
            + (
                f" Fewer leaves ({opt('settings.leaves', 'N')}) make larger skills."
                if len(strata.size) > 1
                else ""
            )
        )
    if gain is not None and n and not np.isfinite(gain).any():
        notes.append(
            f"{opt('settings.image_gain', 'true')} has no effect: no row has an image or a scored "
            "video."
        )
    if gain is not None and np.isfinite(gain).any():
        helped = float((gain > 0).sum() / np.isfinite(gain).sum())
        notes.append(
            f"The visual input makes the answer more likely in {helped:.0%} of the rows with an "
            "image or video."
        )
        if helped < 0.5:
            notes.append(
                "That is less than half: the model seems unable to read it, so a high "
                f"loss may mean hard and not wrong. Try {opt('settings.trust', 'seed')}, and leave "
                "the guard on."
            )
    bimodal = bimodal_share(trust, leaf, strata.by_loss)  # NaN if no skill can be judged: no note
    if bimodal < BIMODAL and not strata.trusted.all():
        share = f"only in skills with {bimodal:.0%} of the rows" if bimodal else "in no skill"
        notes.append(
            f"The losses are bimodal {share}. Losses of correct and wrong rows would be; so hardly "
            "any row is wrong, or the loss does not reveal which, and excluding rows with a high "
            "loss gains little."
        )
    fillers = int((~strata.trusted[rows]).sum())
    if fillers:
        notes.append(
            "The budget is larger than the number of trusted rows and is filled with "
            f"{pluralize(fillers, 'untrusted row')}, lowest loss first."
        )
    return notes


def _bars(evidence: Evidence) -> tuple[Bars, ...]:
    """Bar chart of the largest groups of skills: rows of the pool and kept rows."""
    if not evidence.has("skill_group"):
        return ()
    names, group = distinct_texts(evidence.reasons["skill_group"])
    size, kept = np.bincount(group), np.bincount(group[evidence.kept], minlength=len(names))
    order = np.argsort(-size, kind="stable")[:BARS]
    return (
        Bars(
            "Groups of skills",
            tuple((names[i] or "no words", int(size[i]), int(kept[i])) for i in order.tolist()),
            (len(group), int(evidence.kept.sum())),
            ("Pool", "Kept"),
            note=f"The {len(order)} largest of {len(names)}, with their characteristic words."
            if len(names) > len(order)
            else "With their characteristic words.",
        ),
    )


def _explain_random(evidence: Evidence) -> Callable[[int], Why]:
    def why(i: int) -> Why:
        kind = "random sample" if evidence.kept[i] else "not drawn"
        return Why(kind, f"{kind}: random rows are safer here than winnow's selection")

    return why


def _explain_rows(evidence: Evidence) -> Callable[[int], Why]:
    r, kept = evidence.reasons, evidence.kept
    # by which rows are ranked: the last that is known of the row
    ranked_by = [
        (name, whose)
        for name, whose in (
            ("round_loss", "loss under the last round's models"),
            ("seed_loss", "seed model's loss"),
            ("loss", "loss"),
        )
        if evidence.has(name)
    ]

    def why(i: int) -> Why:
        rows, words = int(r["skill_rows"][i]), str(r["skill_words"][i])
        skill = f"skill {int(r['skill'][i])}" + (f" ({words})" if words else "")
        rank, quota = int(r["loss_rank"][i]), int(r["skill_quota"][i])
        ranked, whose = next(
            (float(r[name][i]), whose) for name, whose in ranked_by if not np.isnan(r[name][i])
        )
        place = (
            f"{skill}: {whose} {ranked:.2f} nats per token, the "
            f"{'' if rank == 1 else _ordinal(rank) + ' '}lowest of {pluralize(rows)}"
        )
        share = f"{quota:,} of them {'is' if quota == 1 else 'are'} kept"
        if rows < LEAST_ROWS:
            kind = "random sample of a small skill" if kept[i] else "not drawn from a small skill"
            return Why(kind, f"{place}, too few to judge by the loss; {share}, drawn at random")
        if r["trusted"][i]:
            kind = "random sample of trusted rows" if kept[i] else "trusted, not drawn"
            return Why(kind, f"{place}, so it is trusted; {share}, drawn at random")
        reason = "a high loss for its skill, perhaps wrong"
        if "image_gain" in r and float(r["image_gain"][i]) <= 0:
            reason = "the visual input does not make the answer more likely"
        kind = "not trusted, selected to fill the budget" if kept[i] else "not trusted"
        return Why(kind, f"{place}; not trusted: {reason}; {share}")

    return why


def _ordinal(number: int) -> str:
    """
    >>> [_ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 1113)]
    ['1st', '2nd', '3rd', '4th', '11th', '12th', '13th', '21st', '102nd', '1,113th']
    """
    ending = (
        "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number:,}{ending}"
