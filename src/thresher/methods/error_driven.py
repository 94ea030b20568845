"""Error-driven tuning: find what the student cannot do, and retrieve the rows that teach it.

Barry Menglong Yao, Qifan Wang, Lifu Huang, arXiv:2412.15652 (ACL 2025). No public code:
implemented from the paper; docs/methods/error_driven.md says what the authors state and what we
chose. Arithmetic on the columns of two sets of rows.

    validation set   rationale (student) -> wrong ones -> answer switch (teacher) -> mistaken step
                     -> missing skill (teacher)
    pool             skills of each row (teacher, once)
    selection        the pool is searched for the missing skill of each wrong row; in each round,
                     every search takes its best row that is not taken yet

Longer than 400 lines because a method is one file: settings, columns, choice and explanation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from thresher.console.formatting import number_text
from thresher.errors import ConfigError, opt
from thresher.methods.explanation import Bars, Drawing, Evidence, Explanation, Histogram, Why
from thresher.methods.needs import require_model
from thresher.methods.settings import setting
from thresher.retrieval import Bm25, Cosine
from thresher.samplers.retrieve import Ranking, Retrieved, retrieve
from thresher.signals.answer_switch import AnswerSwitch
from thresher.signals.gap import Gap
from thresher.signals.missing_skill import MissingSkill
from thresher.signals.mistake import Mistake
from thresher.signals.other_answers import OtherAnswers
from thresher.signals.rationale import NUMBERED, PLAIN, Rationale
from thresher.signals.reasoning import split_reasoning
from thresher.signals.row_skills import RowSkills
from thresher.signals.sampled_switch import SampledSwitch
from thresher.signals.skill_vector import SkillVector, decoded
from thresher.types import (
    EMBEDDER,
    Columns,
    Findings,
    MethodContext,
    ModelIdentity,
    OfTarget,
    Selection,
    Signal,
)

TEACHER = "teacher"  # the role, and the setting that names its model
SKILLS_SHOWN = 12  # in the report
MIN_ROWS_FOR_NOTE = 10  # validation rows from which "all are wrong" is worth a note


@dataclass(frozen=True)
class ErrorDriven:
    """Takes rows that need the skills that the student lacks.

    Best first: in the order in which they were retrieved.
    """

    teacher: str | None = setting(
        None,
        "the model that finds mistakes and names skills; none: the student itself",
        role=True,
    )
    delta: float = setting(
        0.1, "δ: by how much the wrong answer must be more probable than the right one"
    )
    lam: int = setting(1, "λ: for how many further steps this must hold")
    prior: float = setting(0.6, "probability of the right answer stated in the teacher's prompt")
    max_skills: int = setting(3, "most skills that the teacher names for a row of the pool")
    retrieval: Literal["bm25", "embedding"] = setting(
        "bm25",
        "search by words (bm25) or by meaning (embedding: the teacher's hidden states; needs its "
        "weights, or an embedder)",
    )
    identify: Literal["switch", "random", "last"] = setting(
        "switch",
        "the mistaken step: where the teacher's answer switches, a random one, or the last",
    )
    query: Literal["skill", "step"] = setting(
        "skill", "search for the missing skill, or for the text of the mistaken step"
    )
    target: Literal["errors", "random"] = setting(
        "errors", "random: a random sample of the pool, for comparison"
    )
    switch: str = setting(
        "logprobs",
        "how the switch is measured: logprobs, or sample:M (M sampled answers per step, for "
        "servers without log-probabilities)",
    )
    ask: Literal["numbered", "plain"] = setting(
        "numbered", "prompt for the student: numbered steps, or plain step-by-step reasoning"
    )
    max_new_tokens: int = setting(256, "most tokens of a rationale")
    fill: Literal["random", "none"] = setting(
        "random", "how to use budget that no search can use: random rows, or none"
    )

    name: ClassVar[str] = "error_driven"
    paper: ClassVar[str] = "Yao et al., Error-driven data-efficient tuning, arXiv:2412.15652"
    summary: ClassVar[str] = (
        "Finds what the model gets wrong on a validation set; takes rows that need the missing "
        "skills."
    )

    def __post_init__(self) -> None:
        if not 0 <= self.delta < 1:
            raise ConfigError(
                ": from 0 to below 1, such as 0.1.", option="settings.delta", value=self.delta
            )
        if self.lam < 0:
            raise ConfigError(": 0 or more further steps.", option="settings.lam", value=self.lam)
        if not 0 < self.prior < 1:
            raise ConfigError(
                ": a probability between 0 and 1, such as 0.6.",
                option="settings.prior",
                value=self.prior,
            )
        if self.max_skills < 1:
            raise ConfigError(": at least 1.", option="settings.max_skills", value=self.max_skills)
        if self.max_new_tokens < 1:
            raise ConfigError(
                ": at least 1.", option="settings.max_new_tokens", value=self.max_new_tokens
            )
        if self.switch != "logprobs" and not re.fullmatch(r"sample:[1-9]\d*", self.switch):
            raise ConfigError(
                ": logprobs, or sample:M with M answers a step, such as sample:8.",
                option="settings.switch",
                value=self.switch,
            )

    # -------------------------------------------------------------------------------------- columns

    def signals(self, context: MethodContext) -> Mapping[str, Signal | OfTarget]:
        if self.target == "random":
            return {}
        student = require_model(context, self.name)
        teacher = context.roles.get(TEACHER, student)
        embedder = context.roles.get(EMBEDDER, teacher)
        searched = ("retrieval",) if self.retrieval == "bm25" else ()
        of_target = self._of_target(student, teacher, embedder, context.seed).items()
        return self._of_pool(teacher, embedder) | {
            name: OfTarget(signal, searched) for name, signal in of_target
        }

    def _of_pool(
        self, teacher: ModelIdentity, embedder: ModelIdentity
    ) -> dict[str, Signal | OfTarget]:
        skills = RowSkills(teacher, self.max_skills)
        vectors: dict[str, Signal] = {}
        if self.retrieval == "embedding":
            vectors["skill_vector"] = SkillVector(embedder, skills)
        return {"row_skills": skills, **vectors}

    def _of_target(
        self, student: ModelIdentity, teacher: ModelIdentity, embedder: ModelIdentity, seed: int
    ) -> dict[str, Signal]:
        rationale = Rationale(
            student, NUMBERED if self.ask == "numbered" else PLAIN, self.max_new_tokens
        )
        out: dict[str, Signal] = {"rationale": rationale}
        margins: Signal | None = None
        if self.identify == "switch":
            others = OtherAnswers(rationale)
            if self.switch == "logprobs":
                margins = AnswerSwitch(teacher, rationale, others, self.prior)
            else:
                draws = int(self.switch.partition(":")[2])
                margins = SampledSwitch(teacher, rationale, others, draws, seed, self.prior)
            out["answer_switch"] = margins
        mistake = Mistake(rationale, margins, self.identify, self.delta, self.lam, seed)
        out["mistake"] = mistake
        skill = None
        if self.query == "skill":
            skill = out["missing_skill"] = MissingSkill(teacher, rationale, mistake)
        gap = out["gap"] = Gap(mistake, skill)
        if self.retrieval == "embedding":
            out["gap_vector"] = SkillVector(embedder, gap)
        return out

    # ------------------------------------------------------------------------------------ selection

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        """Raises ConfigError without a validation set, unless the setting `target` is random."""
        n = len(columns)
        k = min(budget, n)
        if self.target == "random":
            rows = np.argsort(columns.ties, kind="stable")[:k].astype(np.int64)
            return Selection(
                rows, {}, ("target=random: the rows are a random sample of the pool.",)
            )
        if target is None:
            raise ConfigError(
                f" needs a validation set, on which it looks for the model's "
                f"errors: give one with {opt('validation')} (and {opt('validation_images')}).",
                option="method",
                value="error_driven",
            )
        asking = np.flatnonzero(np.asarray(target["gap"]["skills"], object) != "")
        queries = [str(q) for q in target["gap"]["skills"][asking]]
        found = retrieve(self._ranking(columns, target, queries), queries, k, target.ties[asking])
        fetched = len(found.rows)
        rows = found.rows
        if self.fill == "random" and fetched < k:
            free = np.ones(n, bool)
            free[rows] = False
            spare = np.flatnonzero(free)
            rows = np.r_[rows, spare[np.argsort(columns.ties[spare], kind="stable")][: k - fetched]]
        reason = _reasons(columns, target, asking, found)
        n_retrieved = np.bincount(asking[found.query], minlength=len(target))
        findings = _findings(
            target, n_retrieved, int(found.waiting.sum()), self.identify == "switch"
        )
        notes = self._notes(columns, target, findings, len(rows), fetched)
        return Selection(rows.astype(np.int64), reason, tuple(notes), findings=findings)

    def _ranking(self, columns: Columns, target: Columns, queries: Sequence[str]) -> Ranking:
        if self.retrieval == "bm25":
            return Bm25(columns["row_skills"]["skills"].tolist(), columns.ties)
        vectors = decoded(np.asarray(target["gap_vector"]["vector"], object))
        of = {str(q): v for q, v in zip(target["gap"]["skills"].tolist(), vectors, strict=True)}
        return Cosine(
            decoded(np.asarray(columns["skill_vector"]["vector"], object)), columns.ties, of
        )

    def _notes(
        self, columns: Columns, target: Columns, findings: Findings, kept: int, fetched: int
    ) -> list[str]:
        counts = findings.summary
        wrong, rows = counts["wrong"], counts["rows"]
        notes = [
            (f"The model gets {wrong:,} of {rows:,} validation rows wrong ({_share(wrong, rows)}).")
        ]
        if self.teacher is None:
            notes.append("No teacher was named: the student judged its own mistakes.")
        if not wrong:
            notes.append("So there is no error to select rows for.")
        if wrong == rows >= MIN_ROWS_FOR_NOTE:
            notes.append(
                "None is right: the model may be unable to reason in written steps, and then its "
                "mistakes say little about the task. Look at errors.jsonl, or try "
                f"{opt('settings.ask', 'plain')}."
            )
        if counts["unanswered"]:
            notes.append(
                f"{counts['unanswered']:,} wrong rows contain no reasoning: nothing was "
                "searched for them."
            )
        if counts["never_switched"]:
            notes.append(
                f"In {counts['never_switched']:,} of {wrong:,} wrong rows no step switches "
                "the teacher's answer: the last step is taken as the mistake."
            )
        if counts["without_skill"]:
            notes.append(
                f"For {counts['without_skill']:,} of {wrong:,} mistakes the teacher named no "
                "readable skill: the text of the mistaken step was searched for."
            )
        bare = int((np.asarray(columns["row_skills"]["skills"], object) == "").sum())
        if bare:
            notes.append(
                f"{bare:,} of {len(columns):,} rows of the pool have no readable skill: no search "
                "finds them."
            )
        if counts["waiting"]:
            notes.append(
                f"{counts['waiting']:,} of {wrong:,} mistakes got no row: the budget is smaller "
                "than the number of mistakes, and the searches with the best fit came first."
            )
        if counts["found_nothing"]:
            notes.append(
                f"For {counts['found_nothing']:,} of {wrong:,} mistakes the search found no row "
                "that was not taken yet."
            )
        if kept > fetched:
            notes.append(
                f"{kept - fetched:,} of {kept:,} rows are a random sample: the searches found only "
                f"{fetched:,}."
            )
        return notes

    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        words = evidence.has("validation_row", "search_rank", "search_score", "missing_skill")
        why = _explain_rows(evidence) if words else None
        if not evidence.has("search_score", "missing_skill"):
            return Explanation(why)
        lead = (
            "Rows that need the skills that the model lacked on a validation set, retrieved error "
            "by error."
        )
        found = evidence.findings
        if found:
            lead += (
                f" It got {found.get('wrong', 0):,} of {found.get('rows', 0):,} validation rows "
                "wrong."
            )
        drawn = frozenset({"search_score", "missing_skill"})
        return Explanation(why, lead, (*_drawings(found), Histogram("search_score")), drawn)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "none"


def _reasons(
    columns: Columns, target: Columns, asking: np.ndarray, found: Retrieved
) -> dict[str, np.ndarray]:
    """For each row of the pool, the validation row that retrieved it, its search and score; -1, ""
    and NaN where there is none."""
    n = len(columns)
    by = asking[found.query]
    of = np.full(n, -1, np.int64)
    of[found.rows] = target["row"]["row"][by]
    missing, step = np.full(n, "", object), np.full(n, "", object)
    missing[found.rows] = target["gap"]["skills"][by]
    step[found.rows] = target["mistake"]["text"][by]
    rank = np.full(n, -1, np.int32)
    rank[found.rows] = found.rank
    score = np.full(n, np.nan, np.float32)
    score[found.rows] = found.score
    return {
        "validation_row": of,
        "mistaken_step": step,
        "missing_skill": missing,
        "search_rank": rank,
        "search_score": score,
        "skills": np.asarray(columns["row_skills"]["skills"], object),
    }


def _findings(target: Columns, n_retrieved: np.ndarray, waiting: int, switches: bool) -> Findings:
    """Counts of the validation set, and a record of every wrong row.

    Arguments:
        target: columns of the validation set.
        n_retrieved: int64 [validation rows], rows of the pool that each retrieved.
        waiting: searches that the budget did not reach.
        switches: whether the mistaken step is where the teacher's answer switches.
    """
    rationales, mistake, gap = target["rationale"], target["mistake"], target["gap"]
    wrong = np.flatnonzero(~np.asarray(rationales["right"], bool))
    rows: list[dict[str, Any]] = []
    errors: Counter[str] = Counter()
    fetched: Counter[str] = Counter()
    for i in wrong[np.argsort(target["row"]["row"][wrong], kind="stable")].tolist():
        skill = str(gap["skills"][i])
        errors[skill] += 1
        fetched[skill] += int(n_retrieved[i])
        reasoning = split_reasoning(str(rationales["text"][i]))
        rows.append(
            {
                "row": int(target["row"]["row"][i]),
                "task": target.source_names[target.source[i]],
                "expected": str(rationales["expected"][i]),
                "answer": str(rationales["answer"][i]),
                "steps": list(reasoning.steps),
                "mistaken_step": int(mistake["step"][i]),
                "switched": bool(mistake["switched"][i]),
                "skill": skill,
                "skill_is_the_step": bool(gap["fallback"][i]),
                "fetched": int(n_retrieved[i]),
            }
        )
    tasks = []
    for source, name in enumerate(target.source_names):
        in_task = target.source == source
        if in_task.any():
            bad = int((in_task & ~np.asarray(rationales["right"], bool)).sum())
            tasks.append({"task": name, "rows": int(in_task.sum()), "wrong": bad})
    ranked = sorted((s for s in errors if s), key=lambda s: (-errors[s], s))
    chosen = np.asarray(mistake["chosen"], bool)
    summary = {
        "rows": len(target),
        "wrong": len(wrong),
        "unanswered": int(len(wrong) - chosen.sum()),
        "never_switched": int((chosen & ~np.asarray(mistake["switched"], bool)).sum())
        if switches
        else 0,
        "found_nothing": int((chosen & (n_retrieved == 0)).sum()) - waiting,
        "waiting": waiting,
        "without_skill": int(np.asarray(gap["fallback"], bool).sum()),
        "tasks": tasks,
        "skills": [{"skill": s, "errors": errors[s], "rows": fetched[s]} for s in ranked],
    }
    return Findings(summary, tuple(rows))


def _explain_rows(evidence: Evidence) -> Callable[[int], Why]:
    r, kept = evidence.reasons, evidence.kept

    def why(i: int) -> Why:
        by, rank, skill = (
            int(r["validation_row"][i]),
            int(r["search_rank"][i]),
            str(r["missing_skill"][i]),
        )
        if kept[i] and by >= 0:
            search = f"the search for “{skill}”" if skill else "its search"
            found = f"result {rank + 1:,} of {search}" if rank >= 0 else f"found by {search}"
            return Why(
                "retrieved for an error",
                f"retrieved for validation row {by:,}: {found}, score "
                f"{number_text(r['search_score'][i])}",
            )
        if kept[i]:
            return Why(
                "random fill",
                "random sample that fills the budget: no search asked for more rows",
            )
        return Why("not retrieved", "no search returned it")

    return why


def _drawings(found: Mapping[str, Any]) -> list[Drawing]:
    """The missing skills with their errors and rows, and the validation set by task."""
    out: list[Drawing] = []
    skills = [s for s in found.get("skills", []) if s["errors"] or s["rows"]]
    if skills:
        parts = tuple((str(s["skill"]), int(s["errors"]), int(s["rows"])) for s in skills)
        note = (
            f"{len(skills):,} skills in all; errors.json has them, errors.jsonl every wrong answer."
        )
        totals = sum(p[1] for p in parts), sum(p[2] for p in parts)
        out.append(
            Bars(
                "Missing skills",
                parts[:SKILLS_SHOWN],
                totals,
                ("Errors", "Rows"),
                note,
                paired=False,
            )
        )
    tasks = tuple(
        (str(t["task"]) or "(none)", int(t["rows"]), int(t["wrong"]))
        for t in found.get("tasks", [])
    )
    if tasks:
        totals = sum(t[1] for t in tasks), sum(t[2] for t in tasks)
        out.append(
            Bars("Validation set by task", tasks, totals, ("Rows", "Wrong"), rate="Wrong of these")
        )
    return out
