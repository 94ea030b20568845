"""Starting and ending vLLM's engine, with a stand-in for the package."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from thresher.backends.vllm.engine import Engine
from thresher.errors import ModelError


class Core:
    """The client of the engine's process."""

    ended = 0

    def shutdown(self) -> None:
        Core.ended += 1


@pytest.fixture
def at_exit(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What is to run when Python exits."""
    found: list[Callable[[], None]] = []

    def register(function: Callable[..., None], *given: Any) -> None:
        found.append(lambda: function(*given))

    monkeypatch.setattr("thresher.backends.vllm.engine.atexit.register", register)
    monkeypatch.setattr(Core, "ended", 0)
    return found


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    vllm, exceptions = ModuleType("vllm"), ModuleType("vllm.v1.engine.exceptions")
    vllm.__version__ = "0"  # type: ignore[attr-defined]
    vllm.LLM = lambda model, **arguments: SimpleNamespace(  # type: ignore[attr-defined]
        llm_engine=SimpleNamespace(engine_core=Core())
    )
    exceptions.EngineDeadError = RuntimeError  # type: ignore[attr-defined]
    for name in ("vllm.v1", "vllm.v1.engine"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    monkeypatch.setitem(sys.modules, exceptions.__name__, exceptions)
    for name in ("VLLM_LOGGING_LEVEL", "VLLM_NO_USAGE_STATS"):
        monkeypatch.setenv(name, "")
    return vllm


def test_the_process_ends_with_python(
    package: ModuleType, at_exit: list[Callable[[], None]]
) -> None:
    engine = Engine.start("folder", "it", {})
    (end,) = at_exit
    end()
    assert Core.ended == 1
    del engine
    gc.collect()
    end()  # vLLM itself ended it with the `LLM`
    assert Core.ended == 1


def test_a_model_that_vllm_cannot_run(package: ModuleType) -> None:
    def fails(model: str, **arguments: Any) -> None:
        raise ValueError("Unsupported architecture.\nDetails")

    package.LLM = fails  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"cannot run it: ValueError: Unsupported architecture\."):
        Engine.start("folder", "it", {})
