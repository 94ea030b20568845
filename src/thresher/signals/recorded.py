"""What an earlier run measured, in place of measuring it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from thresher.errors import ConfigError
from thresher.types import Columns, Field, Signal


@dataclass(frozen=True)
class Recorded:
    """A column with the same values for every row. Asks no model."""

    signal: Signal
    """The signal whose fields it has; that signal is not computed."""
    values: tuple[Any, ...]
    """One for each field."""

    kind: ClassVar[str] = "recorded"
    version: ClassVar[int] = 1
    decides: ClassVar[bool] = True

    @classmethod
    def of(cls, signal: Signal, values: Mapping[str, Any], name: str) -> Recorded:
        """The values of a run.yaml, which may be texts.

        Arguments:
            signal: the signal that was measured.
            values: by field.
            name: of the column, for messages.

        Raises ConfigError for a value that is missing or of another type.
        """
        return cls(signal, tuple(_value(f, values.get(f.name), name) for f in signal.fields))

    @property
    def fields(self) -> tuple[Field, ...]:
        return self.signal.fields

    def as_signal(self) -> Signal:
        """Itself: its fields are an attribute of the object, which the protocol does not know."""
        return cast(Signal, self)

    def value(self, field: str) -> Any:
        """The value of one field."""
        return self.values[[f.name for f in self.fields].index(field)]

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        n = len(inputs)
        return {
            f.name: np.full(n, value, f.dtype)
            for f, value in zip(self.fields, self.values, strict=True)
        }


def _value(field: Field, given: Any, name: str) -> Any:
    kind = np.dtype(field.dtype).kind
    text = str(given).lower()
    if kind == "b" and text in ("true", "false"):
        return text == "true"
    try:
        if kind != "b" and given is not None:
            return int(text) if kind in "iu" else float(text.removeprefix("."))  # .nan of YAML
    except ValueError:
        pass
    expected = {"b": "true or false", "f": "a number"}.get(kind, "a whole number")
    raise ConfigError(
        f"decided: {name}.{field.name}: {'nothing' if given is None else given}: expected "
        f"{expected}. Remove `decided` from the file to decide again."
    )
