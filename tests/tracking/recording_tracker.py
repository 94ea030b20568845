"""A tracker that keeps what it is sent."""

from __future__ import annotations

from collections.abc import Mapping

from thresher.tracking import Table, Value


class RecordingTracker:
    """Everything that a run sends, in order. `breaks`: the name of a method that raises."""

    def __init__(self, breaks: str = "") -> None:
        self.breaks = breaks
        self.calls: list[str] = []
        self.asked: dict[str, Value] = {}
        self.logged: list[tuple[str, float, int]] = []  # name, value, step
        self.numbers: dict[str, float] = {}
        self.tables: dict[str, Table] = {}
        self.texts: dict[str, str] = {}
        self.ended: list[bool] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name == self.breaks:
            raise RuntimeError("the server is gone.\nTry later.")

    def settings(self, values: Mapping[str, Value]) -> None:
        self._called("settings")
        self.asked |= values

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._called("log")
        self.logged += [(name, value, step) for name, value in values.items()]

    def summary(self, values: Mapping[str, float]) -> None:
        self._called("summary")
        self.numbers |= values

    def table(self, name: str, table: Table) -> None:
        self._called("table")
        self.tables[name] = table

    def text(self, name: str, text: str) -> None:
        self._called("text")
        self.texts[name] = text

    def close(self, failed: bool) -> None:
        self._called("close")
        self.ended.append(failed)

    def values(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of one number that was logged."""
        return [(step, value) for n, value, step in self.logged if n == name]
