"""Trains the demo model from scratch: `python -m tools.demo_model.train_model --out DIR`.

Stages: tokenizer, vision tower on patch labels, language model on captions and questions,
demonstration-query pairs; then two stages that each start from the saved folder, so that they can
be repeated separately (`--only`): refinement (chains of demonstrations) and practice (chains, and
many questions about one image). Deterministic for a seed on one thread of one type of CPU.
measure_model.py evaluates the result.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tools.demo_model.architecture import build_model, build_processor, train_tokenizer
from tools.demo_model.curriculum import (
    corpus,
    language_conversation,
    pair_stage_conversation,
    refinement_conversation,
)
from tools.demo_model.encoder_stage import train_encoder
from tools.demo_model.practice import practice_conversation
from tools.demo_model.training import Schedule, train_stage
from transformers import GenerationConfig, LlavaForConditionalGeneration, LlavaProcessor

_ENCODER = Schedule(steps=700, rate=2e-3, batch=128, warmup=0.1)
_LANGUAGE = Schedule(steps=950, rate=2e-3, floor=0.25)
_PAIRS = Schedule(steps=800, rate=1e-3)
_REFINEMENT = Schedule(steps=1300, rate=1.5e-3, first=3.0)
_PRACTICE = Schedule(steps=1100, rate=2e-3, first=2.0)


@dataclass(frozen=True)
class Plan:
    """The schedules of all stages."""

    encoder: Schedule = _ENCODER
    language: Schedule = _LANGUAGE
    pairs: Schedule = _PAIRS
    refinement: Schedule = _REFINEMENT
    practice: Schedule = _PRACTICE


def _log(text: str) -> None:
    sys.stdout.write(f"[{time.strftime('%H:%M:%S')}] {text}\n")
    sys.stdout.flush()


def save(folder: Path, model: LlavaForConditionalGeneration, processor: LlavaProcessor) -> None:
    """Write a folder that the Auto classes can load, with float16 weights."""
    tokenizer = processor.tokenizer
    half = LlavaForConditionalGeneration(model.config)
    half.load_state_dict(model.state_dict())
    half = half.to(torch.float16)
    half.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
        max_new_tokens=64,
    )
    half.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    processor.save_pretrained(folder)


def load(folder: Path) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model, LlavaProcessor.from_pretrained(folder)


def train_base(folder: Path, seed: int, plan: Plan) -> None:
    """Run all stages before the refinement, from scratch, and save the model."""
    processor = build_processor(train_tokenizer(corpus(seed)))
    tokenizer = processor.tokenizer
    model = build_model(tokenizer, seed)
    tower = sum(p.numel() for p in model.model.vision_tower.parameters())
    _log(
        f"vocabulary {len(tokenizer)}, parameters {model.num_parameters():,}, of them vision "
        f"tower {tower:,}"
    )
    train_encoder(model, plan.encoder, seed + 1, _log)
    train_stage("language", model, tokenizer, language_conversation, plan.language, seed + 2, _log)
    train_stage("pairs", model, tokenizer, pair_stage_conversation, plan.pairs, seed + 3, _log)
    save(folder, model, processor)


def refine(folder: Path, seed: int, plan: Plan) -> None:
    """Continue training the saved model on chains of demonstrations."""
    model, processor = load(folder)
    train_stage(
        "refinement",
        model,
        processor.tokenizer,
        refinement_conversation,
        plan.refinement,
        seed + 4,
        _log,
    )
    save(folder, model, processor)


def practise(folder: Path, seed: int, plan: Plan) -> None:
    """Continue training the saved model on chains and on many questions about one image."""
    model, processor = load(folder)
    train_stage(
        "practice", model, processor.tokenizer, practice_conversation, plan.practice, seed + 5, _log
    )
    save(folder, model, processor)


_STAGES: dict[str, Callable[[Path, int, Plan], None]] = {
    "base": train_base,
    "refinement": refine,
    "practice": practise,
}


def train(folder: Path, seed: int = 0, plan: Plan | None = None, only: str | None = None) -> None:
    """Train a model in the folder: all stages, or one of "base", "refinement" and "practice" if the
    folder contains the result of the previous stage."""
    torch.set_num_threads(1)
    for name, stage in _STAGES.items():
        if only in (None, name):
            start = time.monotonic()
            stage(folder, seed, plan or Plan())
            _log(f"{name} done in {time.monotonic() - start:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", choices=list(_STAGES), help="one stage, from what --out already holds"
    )
    arguments = parser.parse_args()
    train(arguments.out, arguments.seed, only=arguments.only)


if __name__ == "__main__":
    main()
