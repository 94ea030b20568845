"""`AnswerSwitch` for servers that give no log-probabilities: the teacher answers m times after each
step, and the shares of its answers stand for probabilities.

Coarse: a share moves in steps of 1/m, and answers that name no option count for none. Only where
the user chose it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from thresher.answers.parsing import parse_option
from thresher.errors import CapabilityError
from thresher.signals.case import END, LETTERS, PROMPT, AsksCases, Case, as_json, cases_of, longer
from thresher.types import (
    Capability,
    Columns,
    ModelIdentity,
    Sample,
    SampleSource,
    Scored,
    Signal,
    Turn,
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
        """`n` answers of each row drawn at `temperature`: fields text_0 … text_{n-1} (str)."""


@dataclass(frozen=True)
class SampledSwitch(AsksCases):
    """Rows and prompts as `AnswerSwitch` has them."""

    model: ModelIdentity
    rationale: Signal
    others: Signal
    draws: int
    """m, answers drawn after each step, >= 1."""
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
                f"switch=sample:{self.draws} draws answers from a server, and the teacher's "
                "weights are here, which give the probabilities themselves. Leave the setting "
                "out: --set switch=logprobs."
            )
        asked, unasked = cases_of(samples, inputs, self.prior, self.prompt)
        yield unasked
        rows, cases = list(asked), list(asked.values())
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
            for k, (at, error) in enumerate(zip(piece.index.tolist(), piece.errors, strict=True)):
                i, t = flat[at]
                errors[i] = errors[i] or error
                for d in range(self.draws):
                    option = named(str(piece.values[f"text_{d}"][k]), cases[i])
                    if option is not None:
                        shares[i][t, option] += 1 / self.draws
                left[i] -= 1
                if not left[i]:
                    found = as_json(shares[i][:, cases[i].wrong] - shares[i][:, cases[i].right])
                    values = {"margins": np.array(["[]" if errors[i] else found], object)}
                    yield Scored(np.array([rows[i]], np.int64), values, [errors[i]])

    def _prompt(self, case: Case, steps: int) -> Sample:
        sample = longer(case, steps)
        turn = sample.turns[0]
        # what stands there is not looked at
        turns = (Turn("user", turn.text + self.end), Turn("assistant", "-"))
        return Sample(sample.id, turns, (), sample.source)


def named(text: str, case: Case) -> int | None:
    """The option whose letter a text gives as its answer, None where it names none or it is not
    clear which."""
    return parse_option(text, LETTERS[: len(case.options)])
