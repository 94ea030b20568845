"""A stand-in for vLLM's offline engine: `LLM.generate`, `SamplingParams` and the outputs as far as
the backend reads them, over a tiny transformers model.

Its behaviour is that of vLLM 0.32, which `tests/backends/vllm/test_real_engine.py` compares with:
token ids with one placeholder per image come back expanded; `prompt_logprobs=1` with
`flat_logprobs` gives the prompt's own token and then the most likely one for each position but the
first; without `skip_reading_prefix_cache`, whole blocks of an earlier prompt's beginning are
"cached", and what is reported for them means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers

from thresher.backends.hf.encode import Encoder
from thresher.backends.hf.images import ImagePreparer
from thresher.backends.hf.processor import load_processor

BLOCK = 16  # tokens of a block of the prefix cache


class SamplingParams(SimpleNamespace):
    """The settings of one prompt."""


@dataclass
class FlatLogprobs:
    """As vLLM's class of this name."""

    start_indices: list[int] = field(default_factory=list)
    end_indices: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def append(self, entries: Sequence[tuple[int, float]]) -> None:
        self.start_indices.append(len(self.token_ids))
        self.token_ids += [token for token, _ in entries]
        self.logprobs += [value for _, value in entries]
        self.end_indices.append(len(self.token_ids))


class Dead(Exception):
    """The engine's process has ended."""


class LLM:
    """Runs a tiny model, one prompt at a time.

    Arguments:
        folder: of the model.
        context: most tokens of a prompt.
        short: leave cached positions out of the log-probabilities, as vLLM's second model runner
            does, instead of filling them with anything.
    """

    def __init__(self, folder: Path, context: int = 10**6, short: bool = False) -> None:
        self.processor, _ = load_processor(folder)
        self.preparer = ImagePreparer(self.processor, Encoder(self.processor).image_token)
        self.model = transformers.AutoModelForImageTextToText.from_pretrained(
            folder, dtype=torch.float32
        ).eval()
        self.context, self.short = context, short
        self.seen: list[list[int]] = []
        self.cached: list[int] = []  # of each prompt
        self.dead = False
        self.ended = 0  # times that its process was ended
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=self._end))

    def _end(self) -> None:
        self.ended += 1
        self.dead = True

    def generate(self, prompts: Sequence[Any], params: Sequence[Any], use_tqdm: bool) -> list[Any]:
        if self.dead:
            raise Dead
        expanded = [self._expanded(p) for p in prompts]
        for ids in expanded:
            if len(ids) >= self.context:
                raise ValueError(
                    f"The decoder prompt (length {len(ids)}) is longer than the maximum model "
                    f"length of {self.context}."
                )
        return [
            self._one(ids, p.get("multi_modal_data", {}).get("image", []), settings)
            for ids, p, settings in zip(expanded, prompts, params, strict=True)
        ]

    def _expanded(self, prompt: Any) -> list[int]:
        token = self.processor.tokenizer.convert_tokens_to_ids(self.processor.image_token)
        images = iter(prompt.get("multi_modal_data", {}).get("image", []))
        out: list[int] = []
        for i in prompt["prompt_token_ids"]:
            out += self.preparer.prepare(next(images), False).expansion if i == token else [i]
        return out

    @torch.inference_mode()
    def _logprobs(self, ids: list[int], images: list[Any]) -> torch.Tensor:
        """[tokens, vocabulary]."""
        inputs: dict[str, Any] = {"input_ids": torch.tensor([ids])}
        if images:
            inputs |= self.processor.image_processor(images=images, return_tensors="pt")
        if "image_grid_thw" in inputs:
            token = self.processor.tokenizer.convert_tokens_to_ids(self.processor.image_token)
            inputs["mm_token_type_ids"] = (inputs["input_ids"] == token).int()
        logits: torch.Tensor = self.model(**inputs).logits[0].float()
        return logits.log_softmax(-1)

    def _one(self, ids: list[int], images: list[Any], settings: Any) -> Any:
        table = self._logprobs(ids, images)
        new: list[int] = []
        reason = "length"
        stops = getattr(settings, "stop_token_ids", [])
        following = table
        while len(new) < settings.max_tokens:
            new.append(int(following[-1].argmax()))
            if new[-1] in stops:
                reason = "stop"
                break
            if len(new) < settings.max_tokens:
                following = self._logprobs([*ids, *new], images)
        wanted = getattr(settings, "logprob_token_ids", None)
        chosen = wanted and {i: SimpleNamespace(logprob=float(table[-1, i])) for i in wanted}
        cached = 0
        if not getattr(settings, "skip_reading_prefix_cache", True):
            cached = max((_common(ids, other) for other in self.seen), default=0)
            cached = min(cached, len(ids) - 1) // BLOCK * BLOCK
        self.seen.append(ids)
        self.cached.append(cached)
        answer = SimpleNamespace(
            token_ids=new, finish_reason=reason, logprobs=[chosen] if chosen else None
        )
        return SimpleNamespace(
            prompt_token_ids=ids,
            prompt_logprobs=self._prompt_logprobs(ids, table, cached, settings),
            num_cached_tokens=cached,
            outputs=[answer],
        )

    def _prompt_logprobs(
        self, ids: list[int], table: torch.Tensor, cached: int, settings: Any
    ) -> FlatLogprobs | None:
        if getattr(settings, "prompt_logprobs", None) is None:
            return None
        found = FlatLogprobs()
        found.append([])
        for p in range(1, len(ids)):
            if p > cached:
                best = int(table[p - 1].argmax())
                own = float(table[p - 1, ids[p]])
                found.append([(ids[p], own), (best, float(table[p - 1, best]))])
            elif not self.short:
                found.append([(ids[p], -123.0), (0, -456.0)])  # memory that nothing was written to
        return found


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
