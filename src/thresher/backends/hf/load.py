"""From a model folder or hub id to a checked backend: device, dtype, processor, weights,
self-check."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from thresher.backends.hf.ask_check import fastest_exact_mode
from thresher.backends.hf.backend import HFBackend
from thresher.backends.hf.checkpoint import missing_package, open_weights
from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.encode import Encoder, template_arguments
from thresher.backends.hf.forward import Forward
from thresher.backends.hf.image_budget import set_model_budget
from thresher.backends.hf.images import ImagePreparer, Vision, vision_owner
from thresher.backends.hf.processor import load_processor
from thresher.backends.hf.token_types import TokenTypeForward, token_type_argument
from thresher.console.formatting import pluralize
from thresher.errors import (
    ConfigError,
    ImageError,
    MissingExtra,
    ModelError,
    ThresherError,
    named_reason,
    opt,
    reason_of,
)
from thresher.extras import install_command
from thresher.request.image_pixels import ImagePixels
from thresher.types import ImageRef, Sample, Turn

# nats a token, mean over the answer
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}
BATCH_TOKENS = {"cpu": 4096, "cuda": 16384, "mps": 8192}


def load(
    where: str,
    *,
    revision: str | None,
    device: str,
    dtype: str,
    batch_tokens: int | None,
    trust_remote_code: bool,
    adapters: Sequence[Path] = (),
    typed: str | None = None,
    image_pixels: ImagePixels | None = None,
) -> HFBackend:
    """Load a model and check that thresher's fast path gives the model's own numbers.

    Arguments:
        where: a folder or hub id.
        revision: the commit of a hub id.
        device: a torch device, such as cuda or cpu.
        dtype: name of a torch dtype, such as bfloat16.
        batch_tokens: padded tokens per batch; None: by device.
        trust_remote_code: whether the model's own Python code may run.
        adapters: folders of LoRA adapters, merged into the weights one after the other.
        typed: how the user named the model, for messages; None: `opt("model", WHERE)`.
        image_pixels: bounds on the pixels of its images; None: the model's own.

    Raises ModelError where the model cannot be loaded or its fast path is not exact, and
    MissingExtra where a package is missing.
    """
    typed = typed or opt("model", where)
    processor, _ = load_processor(
        where, revision=revision, trust_remote_code=trust_remote_code, image_pixels=image_pixels
    )
    model, loaded = open_weights(
        where,
        revision=revision,
        dtype=getattr(torch, dtype),
        trust_remote_code=trust_remote_code,
        typed=typed,
    )
    if image_pixels is not None:
        set_model_budget(model.config, processor)
    missing = [*loaded["missing_keys"], *(str(key) for key, *_ in loaded["mismatched_keys"])]
    if missing:  # transformers would initialise them at random, and only log it
        raise ModelError(
            f"{typed}: the weights lack {len(missing)} of the model's tensors, or have them in "
            f"another shape (first: {sorted(missing)[0]}). Download or save the model again."
        )
    for folder in adapters:
        model = _merge(model, folder)
    try:
        model = model.eval().requires_grad_(False).to(device)
    except torch.OutOfMemoryError as e:
        raise ModelError(
            f"{typed} does not fit on {device}. Give {opt('device', 'cpu')} or a smaller model."
        ) from e
    except ValueError as e:  # a quantised model cannot be moved
        raise ModelError(f"{typed} cannot be moved to {device}: {reason_of(e)}.") from e
    experts = model.config.get_text_config(decoder=True)
    if getattr(experts, "output_router_logits", False):
        # as some trainers save it: a further loss, whose code fails on generated tokens
        experts.output_router_logits = False
    encoder = Encoder(processor)
    preparer = ImagePreparer(processor, encoder.image_token)
    tokens = batch_tokens or BATCH_TOKENS.get(model.device.type, 4096)
    text = model.config.get_text_config(decoder=True)
    context = min(getattr(text, "max_position_embeddings", None) or 10**9, 10**9)
    if model.config.model_type == "mllama":
        from thresher.backends.hf.mllama import MllamaForward, MllamaVision

        forward: Forward = MllamaForward(
            model,
            MllamaVision(model, model.device, model.dtype),
            encoder.image_token_id,
            tokens,
        )
    elif "mm_encoder_outputs" in _parameters(model.forward) and hasattr(
        vision_owner(model), "get_image_features"
    ):
        vision = Vision(model, model.device, model.dtype)
        forward = Forward(model, vision, encoder.image_token_id, tokens)
        text_ids = encoder.tokenizer("Is ice cold? Yes, it is.", add_special_tokens=False)
        with _one_sentence(typed, where, revision, model):
            argument = token_type_argument(forward, text_ids["input_ids"])
        if argument is not None:
            forward = TokenTypeForward(model, vision, encoder.image_token_id, tokens, argument)
    else:
        raise ModelError(
            f"{typed} is a {model.config.model_type}, whose transformers code takes no "
            "precomputed image features (mm_encoder_outputs). Update transformers, use another "
            f"model, or write an adapter (docs/adapters.md): {opt('adapter', 'MODULE:CLASS')}."
        )
    with _one_sentence(typed, where, revision, model):
        probe = Image.fromarray(np.full((97, 64, 3), 128, np.uint8))
        alone, among = (preparer.prepare(probe, several) for several in (False, True))
        shrinks = alone.expansion != among.expansion
        backend = HFBackend(forward, encoder, preparer, context, shrinks)
        _check(backend, processor, typed)
    return backend


@contextlib.contextmanager
def _one_sentence(typed: str, where: str, revision: str | None, model: Any) -> Iterator[None]:
    """Turns what a model's own code raises when it is first run into MissingExtra or ModelError."""
    try:
        yield
    except ImportError as e:  # a kernel that is looked for only when the model runs
        raise missing_package(typed, where, revision, e) from e
    except ThresherError:
        raise
    except Exception as e:  # an architecture whose code expects other inputs
        raise ModelError(
            f"{typed} is a {model.config.model_type}, which thresher cannot run: "
            f"{named_reason(e)}. Use another model, and please report this model's name."
        ) from e


def _merge(model: Any, folder: Path) -> Any:
    """The model with the LoRA adapters of `folder` merged into its weights. Raises MissingExtra,
    ModelError."""
    try:
        from peft import PeftModel
    except ImportError as e:
        raise MissingExtra(
            f"{folder} holds LoRA adapters, which need peft: {install_command('train')}"
        ) from e
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft's calls of transformers, not ours
            # without its keys peft would leave a layer untrained, and only warn
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, UserWarning) as e:
        raise ModelError(
            f"The LoRA adapters in {folder} cannot be merged into their base: {reason_of(e)}"
        ) from e


def resolve_device(device: str) -> str:
    """`auto` -> cuda, mps or cpu. Raises ConfigError for a device that is not available."""
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as e:
        raise ConfigError(
            f" cannot be used here: {reason_of(e)}. Give cpu, or leave it out.",
            option="device",
            value=device,
        ) from e
    return device


def resolve_dtype(dtype: str, device: str) -> str:
    """`auto` -> bfloat16 on a GPU that supports it, float16 on other CUDA GPUs, float32 elsewhere.

    Arguments:
        dtype: name of a torch dtype, returned as it is, or auto.
        device: from `resolve_device`.
    """
    if dtype != "auto":
        return dtype
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "float32"


def _parameters(function: Any) -> set[str]:
    import inspect

    return set(inspect.signature(function).parameters)


# --------------------------------------------------------------------------------------- self-check


class _ProbePool:
    """A pool of two synthetic images, to check a model before it scores the user's rows."""

    def load_image(self, ref: ImageRef) -> Image.Image:
        if ref.path not in ("a", "b"):
            raise ImageError(ref.path)
        shade = np.arange(96 * 64 * 3, dtype=np.uint32).reshape(96, 64, 3)
        values = (shade * 7919 if ref.path == "a" else shade // 97 * 31) % 251
        return Image.fromarray(values.astype(np.uint8))

    def by_digest(self, digest: bytes) -> Sample:
        raise KeyError(digest)


def _row(names: str, question: str, answer: str) -> Sample:
    """A row with one image for each letter of `names`."""
    images = tuple(ImageRef(path=name, size=1) for name in names)
    text = "<image>\n" * len(images) + question
    return Sample('"probe"', (Turn("user", text), Turn("assistant", answer)), images)


@torch.inference_mode()
def _check(backend: HFBackend, processor: Any, typed: str) -> None:
    """Compare the fast path with the model's own processor and one ordinary forward pass. Raises
    ModelError where they differ.

    If only the reuse of demonstrations is not exact, it is switched off: whole sequences run
    instead.
    """
    pool = _ProbePool()
    rows = [
        _row("a", "What colour is it?", "Red and blue."),
        _row("", "Is ice cold?", "Yes."),
        _row("ab", "Which is larger?", "The second."),
    ]
    tolerance = TOLERANCE.get(backend.forward.model.dtype, 0.1)
    if backend.forward.vision is not None:
        backend.forward.vision.together = _images_run_together(backend, pool)
    for row in rows:
        block = backend.prepare([conversation(row)], range(1), pool, False)
        if block.errors:
            if len(row.images) > 1:  # such rows of the user fail with this reason, too
                continue
            raise ModelError(
                f"{typed} cannot encode a plain question and answer: {block.errors[0]}"
            )
        official = _official_inputs(processor, row, pool)
        ids = official["input_ids"][0].numpy()  # (tokens,)
        if not np.array_equal(ids, block.rows[0].ids):
            n_images = pluralize(len(row.images), "image")
            ours = block.rows[0].ids
            raise ModelError(
                f"{typed} cannot be used: its {type(processor).__name__} "
                f"{_what_differs(processor, ours, ids.tolist())}, which thresher does not "
                f"reproduce (a row with {n_images}: {len(ours)} instead of {len(ids)} tokens). "
                "Give another model, or a class of yours that encodes its rows by "
                f"{opt('adapter', 'module:Class')}."
            )
        loss = next(backend.forward.losses(block.rows, backend.features(block)))[1][0]
        expected = _official_loss(backend, official, block.rows[0].answer_positions)
        if isinstance(loss, str) or abs(loss.nll - expected) > tolerance:
            raise ModelError(
                f"{typed}: reusing image features changes the loss of a row with "
                f"{pluralize(len(row.images), 'image')} "
                f"({loss if isinstance(loss, str) else loss.nll} instead of {expected}). Please "
                "report the model's name."
            )
    if backend.reuses_prefix and not _reuse_is_exact(backend, pool, rows[0], tolerance):
        backend.forward.reuses_prefix = False
    row = _row("a", "Question: What colour is it? Answer: Red.", "Yes.")
    prompt = Sample(row.id, row.turns[:1], row.images)
    official = _official_inputs(processor, prompt, pool, add_generation_prompt=True)
    official_ids = official["input_ids"][0].tolist()
    backend.forward.query_mode = fastest_exact_mode(backend, prompt, official_ids, pool, tolerance)


def _what_differs(processor: Any, ours: Iterable[int], official: Sequence[int]) -> str:
    """What the model's processor does with the text of a row that the fast path does not.

    Arguments:
        processor: of the model.
        ours: token ids [t] of the fast path.
        official: token ids [u] of the processor.
    """
    written = [int(i) for i in ours]
    changes = [
        (kind, processor.tokenizer.decode(official[first:last]))
        for kind, _, _, first, last in SequenceMatcher(
            None, written, official, autojunk=False
        ).get_opcodes()
        if kind != "equal"
    ]
    if all(kind == "insert" for kind, _ in changes) and len(changes) <= 3:
        added = " and ".join(dict.fromkeys(repr(text) for _, text in changes))
        return f"adds {added} to the text of the chat template"
    return "changes the text of the chat template beside the images' tokens"


def _images_run_together(backend: HFBackend, pool: _ProbePool) -> bool:
    """Whether two images of equal shapes have the same features in one call as in two."""
    vision = backend.forward.vision
    rows = [conversation(_row(name, "What colour is it?", "Red.")) for name in ("a", "b")]
    images = list(backend.prepare(rows, range(2), pool, False).images.values())
    if vision is None or len(images) < 2:
        return True
    alone = [vision.features([image])[0].main for image in images]  # [tokens, hidden] each
    try:
        together = [f.main for f in vision.features(images)]
    # whatever this architecture does not support, one image at a time avoids
    except Exception:  # noqa: BLE001
        return False
    close = 1e-3 if vision.dtype == torch.float32 else 0.05
    return all(
        a.shape == b.shape and bool((a - b).norm() <= close * a.norm())
        for a, b in zip(alone, together, strict=True)
    )


def _reuse_is_exact(backend: HFBackend, pool: _ProbePool, demo: Sample, tolerance: float) -> bool:
    queries = [_row("b", "How many are there?", "Three."), _row("", "Is fire hot?", "Yes.")]
    try:
        fast = _one_shot(backend, queries, demo, pool)
    # whatever this architecture's cache does not support, whole sequences avoid
    except Exception:  # noqa: BLE001
        return False
    backend.forward.reuses_prefix = False
    slow = _one_shot(backend, queries, demo, pool)
    backend.forward.reuses_prefix = True
    return bool(np.allclose(fast, slow, atol=tolerance, rtol=0))


def _one_shot(
    backend: HFBackend, queries: list[Sample], demo: Sample, pool: _ProbePool
) -> np.ndarray:
    nll = np.full(len(queries), np.nan)
    for piece in backend.one_shot(queries, [demo] * len(queries), pool):
        nll[piece.index] = piece.values["nll"]
    return nll


def _official_inputs(
    processor: Any, row: Sample, pool: _ProbePool, add_generation_prompt: bool = False
) -> Any:
    images = (pool.load_image(ref) for ref in row.images)
    messages = []
    for message in conversation(row).messages:
        content = [
            {"type": "image", "image": next(images)}
            if part is None
            else {"type": "text", "text": part}
            for part in message.parts
        ]
        messages.append({"role": message.role, "content": content})
    return processor.apply_chat_template(
        messages,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=add_generation_prompt,
        **template_arguments(processor),
    )


def _official_loss(backend: HFBackend, inputs: Any, answer_positions: np.ndarray) -> float:
    """Mean negative log-likelihood of the answer tokens in one ordinary forward pass, in nats."""
    model = backend.forward.model
    moved = {
        k: v.to(model.device, model.dtype if v.is_floating_point() else None)
        for k, v in inputs.items()
        if isinstance(v, torch.Tensor)
    }
    logits = model(**moved).logits[0].float()  # (tokens, vocabulary)
    positions = torch.from_numpy(answer_positions).to(model.device)  # (answer tokens,)
    logprobs = logits[positions - 1].log_softmax(-1)  # (answer tokens, vocabulary)
    return float(-logprobs.gather(-1, moved["input_ids"][0][positions][:, None]).mean())
