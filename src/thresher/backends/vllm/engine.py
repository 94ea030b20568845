"""vLLM's offline engine: prompts in, vLLM's own outputs out; a prompt that it refuses is an error
of its row.

Importing vLLM and starting its engine, a process of its own, take half a minute; both happen in
`Engine.start`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from thresher.backends.vllm.prompts import Prompt
from thresher.errors import ModelError, named_reason, reason_of

_TOO_LONG = re.compile(
    r"(?:model|context|sequence|encoder cache) (?:length|size)|max_model_len", re.I
)


class Engine:
    """A running engine.

    Arguments:
        llm: vLLM's `LLM`.
        module: the module `vllm`.
        dead: the exceptions that say that the engine's process has ended.
    """

    def __init__(self, llm: Any, module: Any, dead: tuple[type[Exception], ...]) -> None:
        self.llm, self._vllm, self._dead = llm, module, dead
        self.tokens = 0  # of all prompts and answers so far

    @classmethod
    def start(cls, where: str, typed: str, arguments: Mapping[str, Any]) -> Engine:
        """Load a model.

        Arguments:
            where: its folder or hub id.
            typed: how the user named it, for messages.
            arguments: of `vllm.LLM`.

        Raises ModelError if vLLM cannot run it.
        """
        vllm = import_vllm()
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            llm = vllm.LLM(model=where, **arguments)
        except Exception as e:  # whatever vLLM, its kernels or the model's code raise
            raise ModelError(
                f"vLLM {vllm.__version__} cannot run {typed}: {named_reason(e)}. Its own messages "
                "above say more."
            ) from e
        # at exit multiprocessing waits for the engine's process before anything tells it to end
        atexit.register(_stop, weakref.ref(llm.llm_engine.engine_core))
        return cls(llm, vllm, (EngineDeadError,))

    def close(self) -> None:
        """End the engine's process. It runs nothing afterwards."""
        self.llm.llm_engine.engine_core.shutdown()

    def run(self, prompts: Sequence[Prompt], settings: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Run some prompts together.

        Arguments:
            prompts: m prompts.
            settings: for each, the arguments of vLLM's `SamplingParams`.

        Returns for each prompt vLLM's `RequestOutput`, or why vLLM refuses it. Raises ModelError if
        the engine has stopped.
        """
        if not prompts:
            return []
        inputs = [
            {
                "prompt_token_ids": p.ids,
                **({"multi_modal_data": {"image": list(p.images)}} if p.images else {}),
            }
            for p in prompts
        ]
        params = [self._vllm.SamplingParams(**given) for given in settings]
        try:
            outputs = self.llm.generate(inputs, params, use_tqdm=False)
        except self._dead as e:
            raise ModelError(
                "vLLM's engine has stopped; its own messages above say why. Stored scores are "
                "kept: the same command continues."
            ) from e
        except Exception as e:  # noqa: BLE001 - a prompt that vLLM or the model's processor refuses
            if len(prompts) == 1:
                return [_refusal(e)]
            half = len(prompts) // 2
            return [
                *self.run(prompts[:half], settings[:half]),
                *self.run(prompts[half:], settings[half:]),
            ]
        self.tokens += sum(
            len(o.prompt_token_ids) + sum(len(c.token_ids) for c in o.outputs) for o in outputs
        )
        return list(outputs)


def import_vllm() -> Any:
    """The module `vllm`, which prints errors only, unless VLLM_LOGGING_LEVEL is set."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    import vllm

    return vllm


def _stop(engine_core: weakref.ref[Any]) -> None:
    """End the engine's process, unless it has ended with its `LLM`."""
    running = engine_core()
    if running is not None:
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C again: the process has its signal
            running.shutdown()


def _refusal(error: Exception) -> str:
    reason = reason_of(error)
    kind = "too long" if _TOO_LONG.search(reason) else "vllm"
    return f"{kind}: vLLM refuses the row: {reason}"
