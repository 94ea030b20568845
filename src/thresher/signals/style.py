"""The interaction styles of a row (multi-label): mmSSR's nine, from a styler's likelihoods or from
a generated list.

By likelihood (`Style`, one signal per style): the summed log-probability that the styler's answer
begins with the style's name. Summed, not averaged over tokens: the nine are alternatives in the
prompt, so sums are comparable probabilities, while a mean would favour long names, whose last
tokens are certain after the first ones. The stop token does not count, since a list of several
styles continues after the first. A style is chosen if its share of the nine probabilities is at
least one ninth, that of a styler that knows nothing. So every row has at least one style.

By generation (`WrittenStyles`, one generation per row): a list separated by commas, as the official
styler gives it. A row whose list contains no known style is counted as unparsable; it is not a
failure. A styler that was trained on lists puts nearly all probability on the first style of its
list: for it, and for servers without log-probabilities, generation works better.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.answers.parsing import strip_reasoning
from thresher.signals.answer import GenerateBackend
from thresher.signals.capabilities import STYLES
from thresher.signals.judge import SYSTEM
from thresher.signals.prompts import read
from thresher.signals.query import Query, QuerySignalBase, generation_prompt, relative_probabilities
from thresher.types import (
    AnyModel,
    Columns,
    Field,
    Sample,
    SampleSource,
    Scored,
    Signal,
    model_inputs,
)
from thresher.types import Capability as Need

QUERY = read("mmssr_style")


@dataclass(frozen=True)
class Style(QuerySignalBase):
    """One style's likelihood. The other styles are part of the question, and so of the identity."""

    model: AnyModel
    style: str
    styles: tuple[str, ...] = STYLES
    prompt: str = QUERY
    """Follows the row; `{styles}` is replaced by the names, separated by a comma and a space."""
    system: str = SYSTEM

    kind: ClassVar[str] = "style"
    version: ClassVar[int] = 2  # 2: images stay where the row has them
    needs: ClassVar[Need] = Need.LOGPROBS
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "logprob",
            "float32",
            "nats, <= 0: log-probability that the answer begins with this style's name",
        ),
        Field(
            "chosen",
            "bool",
            "its share of the probability on all styles is at least 1 / number of styles",
        ),
    )

    def __post_init__(self) -> None:
        assert self.style in self.styles, f"{self.style!r} is none of the styles {self.styles}"

    def query(self) -> Query:
        return Query(with_styles(self.prompt, self.styles), self.styles, whole=True, end=False)

    def read(self, logprob: np.ndarray) -> tuple[dict[str, np.ndarray], list[str]]:
        """The fields, and each row's error or "".

        Arguments:
            logprob: float64 [m, styles], in nats.
        """
        safe, p, invalid = relative_probabilities(logprob)
        k = self.styles.index(self.style)
        values = {
            "logprob": np.where(invalid, np.nan, safe[:, k]).astype(np.float32),
            # if all shares are equal, all styles are chosen
            "chosen": (p[:, k] * len(self.styles) >= p.sum(axis=1) * (1 - 1e-6)) & ~invalid,
        }
        return values, [
            "no-probability: the styler gives no finite probability to any style" if o else ""
            for o in invalid.tolist()
        ]


@dataclass(frozen=True)
class WrittenStyles:
    """All styles of a row, from one greedy generation."""

    model: AnyModel
    styles: tuple[str, ...] = STYLES
    prompt: str = QUERY
    system: str = SYSTEM
    max_new_tokens: int = 64

    kind: ClassVar[str] = "written_styles"
    version: ClassVar[int] = 3  # 3: images stay where the row has them
    needs: ClassVar[Need] = Need.GENERATE
    fields: ClassVar[tuple[Field, ...]] = (
        Field("text", "str", "the generated text"),
        Field("styles", "int32", "bit k: style k of `styles` is in the list; 0: unparsable"),
        Field("parsed", "bool", "at least one style was recognised"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return model_inputs(self.model)

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: GenerateBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        query = with_styles(self.prompt, self.styles)
        prompts = [generation_prompt(sample, self.system, query) for sample in samples]
        for piece in backend.generate(prompts, pool, self.max_new_tokens):
            bits = np.array(
                [style_bits(str(text), self.styles) for text in piece.values["text"]], np.int32
            )
            values = {"text": piece.values["text"], "styles": bits, "parsed": bits != 0}
            yield Scored(piece.index, values, list(piece.errors))


def with_styles(prompt: str, styles: Sequence[str]) -> str:
    """The prompt with `{styles}` replaced by their names.

    Arguments:
        prompt: a text with `{styles}` in it.
        styles: names of the styles.
    """
    return prompt.replace("{styles}", ", ".join(styles))


def style_bits(text: str, styles: Sequence[str] = STYLES) -> int:
    """The styles in a generated list: bit k for `styles[k]`; 0 if none is recognised.

    Parts are separated by commas or newlines; case, brackets, quotes, a final full stop and a
    leading "Styles:" are ignored, as are unknown parts. Reasoning is not a list; a list of all
    styles is a repetition of the question.

    Arguments:
        text: a generated list.
        styles: names of the styles, in the order of the bits.

    >>> style_bits("[yes/no, Word/short-phrase].") == 0b1100
    True
    >>> (style_bits("I cannot tell."), style_bits("<think>Is it a comparison, or"),
    ...     style_bits("Styles: comparison") == 64)
    (0, 0, True)
    """
    return sum(1 << k for k in listed_styles(text, styles))


def listed_styles(text: str, styles: Sequence[str] = STYLES) -> list[int]:
    """The styles in a generated list, in its order; read as by `style_bits`.

    Arguments:
        text: a generated list.
        styles: names of the styles.

    >>> listed_styles("Word/short-phrase, yes/no, Yes/No")
    [3, 2]
    """
    number_of = {_plain(style): k for k, style in enumerate(styles)}
    parts = strip_reasoning(text).replace("\n", ",").split(",")
    numbers = (number_of.get(_plain(part)) for part in parts)
    found = list(dict.fromkeys(k for k in numbers if k is not None))
    return [] if len(styles) > 1 and len(found) == len(styles) else found


def _plain(part: str) -> str:
    part = re.sub(
        r"^\W*(?:interaction )?styles?(?: candidates)?\W*:", "", part, flags=re.IGNORECASE
    )
    return part.strip(" \t[]\"'`.*-").lower()


def style_names(bits: int, styles: Sequence[str] = STYLES) -> tuple[str, ...]:
    """The styles whose bit is set, in the order of `styles`.

    Arguments:
        bits: the styles as an integer.
        styles: names of the styles, in the order of the bits.
    """
    return tuple(style for k, style in enumerate(styles) if bits >> k & 1)
