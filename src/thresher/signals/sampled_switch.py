"""`AnswerSwitch` for servers without log-probabilities: probabilities are estimated from m sampled
answers after each step.

Coarse: estimates are multiples of 1/m, and answers that name no option count for none. Used only if
the user chose it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from thresher.answers.parsing import parse_option
from thresher.errors import CapabilityError, opt
from thresher.signals.answer import text_prompt
from thresher.signals.case import (
    END,
    LETTERS,
    PROMPT,
    Case,
    SwitchSignal,
    cases_of,
    margins_json,
    with_steps,
)
from thresher.types import (
    Capability,
    Columns,
    ModelIdentity,
    Sample,
    SampleSource,
    Scored,
    Signal,
)


class SampleBackend(Protocol):
    def sample(
        self,
        samples: Sequence[Sample],
        pool: SampleSource,
        n: int,
        temperature: float,
        max_new_tokens: int,
        seed: int,
    ) -> Iterator[Scored]:
        """Sampled answers of each row: yields text_0 … text_{n-1} (str).

        Arguments:
            samples: rows.
            pool: where images are loaded from.
            n: number of answers per row.
            temperature: of the sampling, above 0.
            max_new_tokens: maximum number of tokens of an answer.
            seed: random seed; a row's answers do not depend on the other rows.
        """


@dataclass(frozen=True)
class SampledSwitch(SwitchSignal):
    """Rows and prompts as in `AnswerSwitch`."""

    model: ModelIdentity
    rationale: Signal
    others: Signal
    draws: int
    """m, answers sampled after each step, >= 1."""
    seed: int = 0
    prior: float = 0.6
    prompt: str = PROMPT
    end: str = END
    temperature: float = 1.0

    kind: ClassVar[str] = "sampled_switch"
    version: ClassVar[int] = 2
    needs: ClassVar[Capability] = Capability.GENERATE

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: SampleBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        assert inputs is not None
        if not hasattr(backend, "sample"):
            raise CapabilityError(
                f"switch=sample:{self.draws} samples answers from a server, but the teacher runs "
                "here and gives the probabilities themselves. Leave the setting out, or give "
                f"{opt('settings.switch', 'logprobs')}."
            )
        cases_by_row, skipped = cases_of(samples, inputs, self.prior, self.prompt)
        yield skipped
        rows, cases = list(cases_by_row), list(cases_by_row.values())
        flat = [(i, t) for i, c in enumerate(cases) for t in range(len(c.pieces) + 1)]
        prompts = [self._prompt(cases[i], t) for i, t in flat]
        shares = [np.zeros((len(c.pieces) + 1, len(c.options))) for c in cases]
        left = [len(s) for s in shares]
        errors = [""] * len(cases)
        for piece in (
            backend.sample(prompts, pool, self.draws, self.temperature, 8, self.seed)
            if prompts
            else ()
        ):
            for k, (j, error) in enumerate(zip(piece.index.tolist(), piece.errors, strict=True)):
                i, t = flat[j]
                errors[i] = errors[i] or error
                for d in range(self.draws):
                    option = named_option(str(piece.values[f"text_{d}"][k]), cases[i])
                    if option is not None:
                        shares[i][t, option] += 1 / self.draws
                left[i] -= 1
                if not left[i]:
                    found = margins_json(
                        shares[i][:, cases[i].wrong] - shares[i][:, cases[i].right]
                    )
                    values = {"margins": np.array(["[]" if errors[i] else found], object)}
                    yield Scored(np.array([rows[i]], np.int64), values, [errors[i]])

    def _prompt(self, case: Case, steps: int) -> Sample:
        sample = with_steps(case, steps)
        return text_prompt(sample, sample.turns[0].text + self.end)


def named_option(text: str, case: Case) -> int | None:
    """The option whose letter a text gives as its answer; None if it names none or it is
    unclear.

    Arguments:
        text: a generated answer.
        case: its options.
    """
    return parse_option(text, LETTERS[: len(case.options)])
