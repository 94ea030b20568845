"""Tiny random models of the real architectures, each with its own processor and a chat template
like the hub's.

`build("llava", folder)` gives a model folder as `save_pretrained` writes it, 0.15-0.4 M parameters
(`size="small"`: about 30 M, for benchmarks). Nothing is downloaded: weights are drawn, tokenizers
are trained here on a few sentences. The weights are drawn at a scale where every part matters
(logits spread by about 1, images and positions change them), because at transformers' own initial
scale a wrong position or a lost image moves the loss by less than rounding.

Chat templates render the same text as the official ones do for text and images, so that their
peculiarities are
tested: Qwen2.5-VL's default system turn, LLaVA's trailing spaces and its images-first order,
LLaVA-OneVision's "assistant " + newline in a turn against "assistant" + newline in the generation
prompt, SmolVLM's look at `content[0]`, Llama-3.2-Vision's date line (only in conversations without
any image) and its system turn, which must be a plain string. Two things are stricter than the hub:
Llama-3.2-Vision trims texts, as other Llama templates do, and LLaVA's tokenizer merges the space
before an answer into the answer's first token for every ASCII first letter.

Used by tests and benchmarks; touches only the folder it is given. Needs no torchvision. One long
file, because most of it is configuration and its own hash is the key of the cache.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import shutil
import string
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import transformers as tf
from PIL import Image
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from tests import reference_names
from thresher.backends.hf.processor import image_only, load_processor

Size = Literal["tiny", "small"]


# ----------------------------------------------------------------------------- building and caching


def cache_folder() -> Path:
    """THRESHER_TINY_MODELS, or a folder of this user's under the system's temporary one."""
    given = os.environ.get("THRESHER_TINY_MODELS")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(given) if given else Path(tempfile.gettempdir()) / f"thresher-tiny-models-{user}"


def build(name: str, out: Path | None = None, *, size: Size = "tiny") -> Path:
    """The model folder of `name`, built inside `out` (default: `cache_folder()`) unless it is there
    already.

    A change of this file or of transformers' version gives a new folder. Safe for processes that
    build at one time.
    """
    from tests import tiny_families

    model = MODELS.get(name) or tiny_families.FAMILIES.get(name)
    if model is None or (size == "small" and not model.small):
        small = [n for n, m in MODELS.items() if m.small]
        raise ValueError(f"no {size} model {name!r}; tiny: {list(MODELS)}, small: {small}")
    if model.needs and importlib.util.find_spec(model.needs) is None:
        raise NotBuilt(f"its processor needs {model.needs}, which is not installed.")
    sources = [Path(__file__), *([Path(tiny_families.__file__)] if name not in MODELS else [])]
    content = b"".join(p.read_bytes() for p in sources)
    key = hashlib.sha256(content + tf.__version__.encode()).hexdigest()[:12]
    folder = (cache_folder() if out is None else Path(out)) / key / f"{name}-{size}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    half_built = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with torch.random.fork_rng(devices=[]), _quiet():
            torch.manual_seed(0)
            model.write(half_built, size)
        try:
            half_built.rename(folder)
        except OSError:
            if not folder.is_dir():  # else: another process was first, and its folder is the same
                raise
    finally:
        shutil.rmtree(half_built, ignore_errors=True)
    return folder


def picture(width: int = 120, height: int = 90, seed: int = 0) -> Image.Image:
    """An RGB image of coloured clouds; another seed is another image."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(height // 16, 1), max(width // 16, 1), 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def build_all(out: Path | None = None) -> dict[str, Path]:
    """Every tiny model that takes images: name -> folder."""
    return {name: build(name, out) for name in ARCHITECTURES}


class NotBuilt(Exception):
    """A tiny model needs a package that is not installed."""


class Loaded(NamedTuple):
    """A tiny model as transformers itself loads it: float32, on the CPU, in eval mode."""

    name: str
    folder: Path
    processor: Any
    model: Any


@functools.cache
def load(name: str, size: Size = "tiny") -> Loaded:
    """Build and load; once a process, so do not change what comes back."""
    folder = build(name, size=size)
    processor, _ = load_processor(folder)
    with _quiet():
        model = tf.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    return Loaded(name, folder, processor, model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and notices of transformers while saving."""
    level = tf.logging.get_verbosity()
    bars = tf.logging.is_progress_bar_enabled()
    tf.logging.set_verbosity_error()
    tf.logging.disable_progress_bar()
    try:
        yield
    finally:
        tf.logging.set_verbosity(level)
        if bars:
            tf.logging.enable_progress_bar()


def _enliven(model: torch.nn.Module) -> None:
    """Redraw every matrix at 1/sqrt(fan-in), so that each layer passes on as much as it gets."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith(("attn_gate", "mlp_gate", "gate_attn", "gate_ffn")):
                p.fill_(0.7)  # Llama-3.2-Vision starts with closed gates: it would ignore
            elif p.dim() >= 2 and p.numel() > p.shape[0]:
                fan_in = p[0].numel()
                p.copy_(torch.randn(p.shape, generator=generator) * fan_in**-0.5)
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
            module.weight.data[module.padding_idx] = 0


def save(out: Path, model: Any, processor: Any, video: dict[str, Any] | None = None) -> None:
    _enliven(model)
    model.eval().save_pretrained(out)
    processor.save_pretrained(out)
    # what the hub's folders have: plain AutoProcessor reads it where torchvision works
    if video is not None:
        file = out / "processor_config.json"
        file.write_text(
            json.dumps(json.loads(file.read_text()) | {"video_processor": video}, indent=2)
        )


def text_config(tokenizer: Any, **more: Any) -> dict[str, Any]:
    """A language model of two layers; `more` replaces some of it or adds to it."""
    return {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 8192,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
        **more,
    }


def vision_config(**more: Any) -> dict[str, Any]:
    """A vision tower for square images of 16 patches; `more` replaces some of it or adds to it."""
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        **more,
    }


# --------------------------------------------------------------------------------------- tokenizers

_SENTENCES = (
    "What is in the picture? A red cat sitting on a blue mat.",
    "How many objects are there? There are three green circles and two squares.",
    "Describe the image in detail. The image shows a chart with a title and a legend.",
    "Does the answer follow the question? Answer with yes or no. Yes. No.",
    "Read the text in the document and answer the question using a single word or phrase.",
    "USER: ASSISTANT: User: Assistant: user assistant system You are a helpful assistant.",
    "Which option is correct? A. B. C. D. Explain why, step by step, then give the final answer.",
    "0 1 2 3 4 5 6 7 8 9 10 20 50 100 score rating quality relevance",
    "Cutting Knowledge Date: December 2023 Today Date: 26 Jul 2024",
)
_LINES = (
    "assistant\n\nYes.\n\nNo.\nA.\n",
    "user \nWhat? \nassistant \nIt is so.\n\n- one\n- two\n",
)
_LONE_LETTERS = " ".join(["", *(string.ascii_letters + string.digits), ""])

_QWEN_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| "
    r"?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Words:
    """A tokenizer to train. `special` come first, in order, so their ids are 0, 1, 2 …; then
    `plain`."""

    special: tuple[str, ...]
    eos: str
    pad: str
    bos: str | None = None
    plain: tuple[str, ...] = ()  # words that are given, not learned: the byte tokens of Llama 2
    named: tuple[tuple[str, str], ...] = ()  # attribute of the tokenizer -> special token
    vocab: int = 640
    learned: tuple[str, ...] = ()  # further texts to train on

    def byte_level(self) -> Any:
        """As Qwen and Llama 3 tokenize: any text, in bytes; several newlines, or ".\n", can be one
        token."""
        raw = Tokenizer(models.BPE())
        raw.normalizer = normalizers.NFC()
        raw.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_QWEN_PIECES), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        raw.decoder = decoders.ByteLevel()
        texts = (*_SENTENCES, *_LINES, *self.learned)
        raw.model = self._train(raw, pre_tokenizers.ByteLevel.alphabet(), texts)
        return self._finish(raw)

    def sentencepiece_like(self) -> Any:
        """As Llama 2 (and so LLaVA-1.5) tokenizes: "▁" for a space, merged into the word after it;
        unknown characters as bytes; a space put before the text; `<s>` added by the tokenizer, not
        by the template."""
        raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        raw.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement="▁", prepend_scheme="first", split=True
        )
        alphabet = ["▁", *string.ascii_letters, *string.digits, *string.punctuation]
        trained = self._train(raw, alphabet, (*_SENTENCES, *[_LONE_LETTERS] * 20))
        trained.byte_fallback, trained.unk_token, trained.fuse_unk = True, "<unk>", True
        raw.model = trained
        raw.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement="▁", prepend_scheme="first", split=False
        )
        raw.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        assert self.bos is not None
        raw.post_processor = processors.TemplateProcessing(
            single=f"{self.bos} $A", special_tokens=[(self.bos, self.special.index(self.bos))]
        )
        return self._finish(raw)

    def _train(self, raw: Tokenizer, alphabet: list[str], sentences: tuple[str, ...]) -> models.BPE:
        """A vocabulary that starts with `special` and `plain`, and its merges."""
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab,
            special_tokens=[*self.special, *self.plain],
            initial_alphabet=alphabet,
            show_progress=False,
        )
        learner = Tokenizer(models.BPE())
        learner.pre_tokenizer = raw.pre_tokenizer
        learner.train_from_iterator(list(sentences) * 4, trainer)
        learned = json.loads(learner.to_str())["model"]
        return models.BPE(
            vocab=learned["vocab"], merges=[tuple(pair) for pair in learned["merges"]]
        )

    def _finish(self, raw: Tokenizer) -> Any:
        # they keep their ids; `plain` ones stay ordinary words
        raw.add_special_tokens(list(self.special))
        return tf.PreTrainedTokenizerFast(
            tokenizer_object=raw,
            eos_token=self.eos,
            pad_token=self.pad,
            **({"bos_token": self.bos} if self.bos else {}),
            extra_special_tokens=dict(self.named),
            model_max_length=8192,
            padding_side="left",
            clean_up_tokenization_spaces=False,
        )


# ----------------------------------------------------------------------------- Qwen2.5-VL, Qwen3-VL

QWEN_WORDS = Words(
    special=(
        *(
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<|vision_start|>",
            "<|vision_end|>",
            "<|vision_pad|>",
        ),
        *("<|image_pad|>", "<|video_pad|>"),
    ),
    eos="<|im_end|>",
    pad="<|endoftext|>",
)
QWEN2_5_CHAT = """\
{%- set pictures = namespace(n=0) -%}
{%- for message in messages -%}
{%- if loop.first and message['role'] != 'system' -%}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' or 'image' in part or 'image_url' in part -%}
{%- set pictures.n = pictures.n + 1 -%}
{%- if add_vision_id -%}{{- 'Picture ' ~ pictures.n ~ ': ' -}}{%- endif -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part['type'] == 'video' or 'video' in part -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif 'text' in part -%}
{{- part['text'] -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
# No default system turn; a system turn counts only as the first one; images only in user turns.
QWEN3_CHAT = """\
{%- macro parts(content, images) -%}
{%- if content is string -%}
{{- content -}}
{%- else -%}
{%- for part in content -%}
{%- if images and (part.type == 'image' or 'image' in part or 'image_url' in part) -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif images and (part.type == 'video' or 'video' in part) -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif 'text' in part -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- if messages[0].role == 'system' -%}
{{- '<|im_start|>system\\n' + parts(messages[0].content, false) + '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role in ('user', 'assistant') -%}
{{- '<|im_start|>' + message.role + '\\n' + parts(message.content, message.role == 'user') + '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""  # noqa: E501


def qwen_ids(tokenizer: Any) -> dict[str, int]:
    names = ("image_pad", "video_pad", "vision_start", "vision_end")
    ids = {n: tokenizer.convert_tokens_to_ids(f"<|{n}|>") for n in names}
    return {
        "image_token_id": ids["image_pad"],
        "video_token_id": ids["video_pad"],
        "vision_start_token_id": ids["vision_start"],
        "vision_end_token_id": ids["vision_end"],
    }


def save_qwen(
    out: Path, config: Any, tokenizer: Any, patch: int, images: int = 16, videos: int = 48
) -> None:
    """A model of the Qwen family of `config` with new weights, and its processor.

    Arguments:
        patch: side of a patch, in pixels.
        images, videos: most tokens of an image, and of a video.
    """
    kind = {tf.Qwen2VLConfig: tf.Qwen2VLProcessor, tf.Qwen2_5_VLConfig: tf.Qwen2_5_VLProcessor}.get(
        type(config), tf.Qwen3VLProcessor
    )
    version3 = kind is tf.Qwen3VLProcessor
    shape = {"patch_size": patch, "merge_size": 2, "temporal_patch_size": 2}
    token = (2 * patch) ** 2  # pixels
    processor = image_only(kind)(
        image_processor=Qwen2VLImageProcessorPil(
            min_pixels=token * 4, max_pixels=token * images, **shape
        ),
        tokenizer=tokenizer,
        chat_template=QWEN3_CHAT if version3 else QWEN2_5_CHAT,
    )
    model = tf.AutoModelForImageTextToText.from_config(config)
    video = {
        "video_processor_type": "Qwen3VLVideoProcessor" if version3 else "Qwen2VLVideoProcessor",
        "size": {"shortest_edge": token * 4, "longest_edge": token * videos},
        **shape,
    }
    save(out, model, processor, video)


def _qwen2_5_vl(out: Path, size: Size) -> None:
    tokenizer = QWEN_WORDS.byte_level()
    hidden, layers, heads, inner, vision_hidden, vision_layers, most_tokens = (
        (64, 2, 4, 128, 32, 2, 16) if size == "tiny" else (512, 8, 8, 1536, 128, 4, 120)
    )
    half_head = hidden // heads // 2
    sideways = half_head * 3 // 8  # rows and columns of the rotary positions; the rest is time
    config = tf.Qwen2_5_VLConfig(
        text_config=text_config(
            tokenizer,
            hidden_size=hidden,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            head_dim=hidden // heads,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [half_head - 2 * sideways, sideways, sideways],
            },
            bos_token_id=0,
        ),
        vision_config={
            "depth": vision_layers,
            "hidden_size": vision_hidden,
            "intermediate_size": 2 * vision_hidden,
            "num_heads": 2,
            "out_hidden_size": hidden,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [vision_layers - 1],
        },
        tie_word_embeddings=True,
        **qwen_ids(tokenizer),
    )
    save_qwen(out, config, tokenizer, 14, most_tokens, most_tokens)


QWEN3_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 64,
}


def _qwen3_vl(out: Path, size: Size) -> None:
    tokenizer = QWEN_WORDS.byte_level()
    config = tf.Qwen3VLConfig(
        text_config=text_config(
            tokenizer,
            num_hidden_layers=3,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
            bos_token_id=0,
        ),
        vision_config=QWEN3_VISION | {"depth": 3, "deepstack_visual_indexes": [0, 1]},
        tie_word_embeddings=True,
        **qwen_ids(tokenizer),
    )
    save_qwen(out, config, tokenizer, 16)


# ---------------------------------------------------------------------------------------- LLaVA-1.5

LLAVA_WORDS = Words(
    special=("<unk>", "<s>", "</s>", "<pad>", "<image>"),
    plain=tuple(f"<0x{b:02X}>" for b in range(256)),
    bos="<s>",
    eos="</s>",
    pad="<pad>",
    named=(("image_token", "<image>"),),
    vocab=900,
)
LLAVA_CHAT = """\
{%- for message in messages -%}
{%- if message['role'] != 'system' -%}{{- message['role'].upper() + ': ' -}}{%- endif -%}
{%- for part in message['content'] | selectattr('type', 'equalto', 'image') -%}{{- '<image>\\n' -}}{%- endfor -%}
{%- for part in message['content'] | selectattr('type', 'equalto', 'text') -%}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- part['text'] + ' ' -}}{%- endgeneration -%}
{%- else -%}
{{- part['text'] + ' ' -}}
{%- endif -%}
{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
"""  # noqa: E501


def _llava(out: Path, size: Size) -> None:
    tokenizer = LLAVA_WORDS.sentencepiece_like()
    hidden, layers, heads, inner, vision_hidden, vision_layers, pixels = (
        (64, 2, 4, 128, 32, 3, 56) if size == "tiny" else (512, 8, 8, 1536, 128, 4, 168)
    )
    config = tf.LlavaConfig(
        vision_config=vision_config(
            model_type="clip_vision_model",
            hidden_size=vision_hidden,
            intermediate_size=2 * vision_hidden,
            num_hidden_layers=vision_layers,
            image_size=pixels,
            projection_dim=vision_hidden,
        ),
        text_config=text_config(
            tokenizer,
            model_type="llama",
            hidden_size=hidden,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=hidden // heads,
            bos_token_id=1,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(pixels // 14) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    processor = tf.LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": pixels}, crop_size={"height": pixels, "width": pixels}
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # CLIP's class token, which "default" drops again
        chat_template=LLAVA_CHAT,
    )
    save(out, tf.LlavaForConditionalGeneration(config), processor)


# ---------------------------------------------------------------------------------- LLaVA-OneVision

_ONEVISION_WORDS = Words(
    special=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"),
    eos="<|im_end|>",
    pad="<|endoftext|>",
    named=(("image_token", "<image>"), ("video_token", "<video>")),
)
_ONEVISION_CHAT = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + ' ' -}}
{%- for part in message['content'] | selectattr('type', 'equalto', 'image') -%}{{- '<image>' -}}{%- endfor -%}
{%- for part in message['content'] | selectattr('type', 'equalto', 'video') -%}{{- '<video>' -}}{%- endfor -%}
{%- for part in message['content'] | selectattr('type', 'equalto', 'text') -%}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- '\\n' + part['text'] -}}{%- endgeneration -%}
{%- else -%}
{{- '\\n' + part['text'] -}}
{%- endif -%}
{%- endfor -%}
{{- '<|im_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""  # noqa: E501


def _llava_onevision(out: Path, size: Size) -> None:
    tokenizer = _ONEVISION_WORDS.byte_level()
    pinpoints = [[56, 56], [56, 112], [112, 56], [112, 112]]
    config = tf.LlavaOnevisionConfig(
        vision_config=vision_config(model_type="siglip_vision_model", vision_use_head=False),
        text_config=text_config(tokenizer, model_type="qwen2"),
        image_token_index=3,
        video_token_index=4,
        image_grid_pinpoints=pinpoints,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
        tie_word_embeddings=True,
    )
    square = {"height": 56, "width": 56}
    processor = image_only(tf.LlavaOnevisionProcessor)(
        image_processor=LlavaOnevisionImageProcessorPil(
            size=square, image_grid_pinpoints=pinpoints
        ),
        tokenizer=tokenizer,
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
        chat_template=_ONEVISION_CHAT,
    )
    video = {"video_processor_type": "LlavaOnevisionVideoProcessor", "size": square}
    save(out, tf.LlavaOnevisionForConditionalGeneration(config), processor, video)


# --------------------------------------------------------------------------------- Llama-3.2-Vision

_MLLAMA_WORDS = Words(
    special=(
        *(
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|finetune_right_pad_id|>",
            "<|start_header_id|>",
        ),
        *("<|end_header_id|>", "<|eot_id|>", "<|python_tag|>"),
    ),
    bos="<|begin_of_text|>",
    eos="<|eot_id|>",
    pad="<|finetune_right_pad_id|>",
)
_MLLAMA_CHAT = """\
{{- bos_token -}}
{%- if not date_string is defined -%}{%- set date_string = strftime_now('%d %b %Y') -%}{%- endif -%}
{%- if messages[0]['role'] == 'system' -%}
{%- set system_message = messages[0]['content'] | trim -%}
{%- set messages = messages[1:] -%}
{%- set user_gave_system = true -%}
{%- else -%}
{%- set system_message = '' -%}
{%- set user_gave_system = false -%}
{%- endif -%}
{%- set seen = namespace(images=false) -%}
{%- for message in messages -%}{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{%- set seen.images = true -%}{%- endif -%}
{%- endfor -%}{%- endfor -%}
{%- if user_gave_system or not seen.images -%}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' -}}
{{- 'Cutting Knowledge Date: December 2023\\nToday Date: ' + date_string + '\\n\\n' -}}
{{- system_message + '<|eot_id|>' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] | trim -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
{{- '<|image|>' -}}
{%- elif part['type'] == 'text' -%}
{{- part['text'] | trim -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}
"""  # noqa: E501


def _mllama(out: Path, size: Size) -> None:
    tokenizer = _MLLAMA_WORDS.byte_level()
    words = len(tokenizer)
    # The image token comes right after the text vocabulary: it is read, never predicted; lm_head
    # has no row for it.
    tokenizer.add_tokens(["<|image|>"], special_tokens=True)
    config = tf.MllamaConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_global_layers": 1,
            "attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
            "max_num_tiles": 4,
            "intermediate_layers_indices": [0, 1],
            "vision_output_dim": 32 * 3,
            "supported_aspect_ratios": [
                [1, 1],
                [1, 2],
                [1, 3],
                [1, 4],
                [2, 1],
                [2, 2],
                [3, 1],
                [4, 1],
            ],
        },
        text_config=text_config(
            tokenizer,
            num_hidden_layers=4,
            vocab_size=words,
            cross_attention_layers=[1, 3],
            bos_token_id=0,
            eos_token_id=5,
            pad_token_id=2,
            rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        ),
        image_token_index=words,
    )
    processor = tf.MllamaProcessor(
        image_processor=MllamaImageProcessorPil(
            size={"height": 56, "width": 56}, max_image_tiles=4
        ),
        tokenizer=tokenizer,
        chat_template=_MLLAMA_CHAT,
    )
    save(out, tf.MllamaForConditionalGeneration(config), processor)


# ------------------------------------------------------------------------------------------ SmolVLM

SMOLVLM_WORDS = Words(
    special=(
        *(
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<end_of_utterance>",
            "<fake_token_around_image>",
            "<image>",
        ),
        *(
            "<global-img>",
            *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
        ),
    ),
    bos="<|im_start|>",
    eos="<end_of_utterance>",
    pad="<|im_end|>",
    named=(
        ("image_token", "<image>"),
        ("fake_image_token", "<fake_token_around_image>"),
        ("end_of_utterance_token", "<end_of_utterance>"),
        ("global_image_token", "<global-img>"),
    ),
    vocab=680,
)
SMOLVLM_CHAT = """\
{{- '<|im_start|>' -}}
{%- for message in messages -%}
{{- message['role'] | capitalize -}}
{%- if message['content'][0]['type'] == 'image' -%}{{- ':' -}}{%- else -%}{{- ': ' -}}{%- endif -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}{{- part['text'] -}}{%- elif part['type'] == 'image' -%}{{- '<image>' -}}\
{%- elif part['type'] == 'video' -%}{{- '<video>' -}}{%- endif -%}
{%- endfor -%}
{{- '<end_of_utterance>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}
"""  # noqa: E501


def smolvlm_config(tokenizer: Any) -> dict[str, Any]:
    """What the configurations of SmolVLM and of Idefics 3 share."""
    return {
        "vision_config": vision_config(),
        "text_config": text_config(
            tokenizer, model_type="llama", bos_token_id=1, eos_token_id=3, pad_token_id=2
        ),
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "pad_token_id": 2,
        "scale_factor": 2,
        "tie_word_embeddings": False,
    }


def _smolvlm(out: Path, size: Size) -> None:
    tokenizer = SMOLVLM_WORDS.byte_level()
    config = tf.SmolVLMConfig(**smolvlm_config(tokenizer))
    edges = {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}}
    processor = image_only(tf.SmolVLMProcessor)(
        image_processor=SmolVLMImageProcessorPil(do_image_splitting=True, **edges),
        tokenizer=tokenizer,
        video_processor=None,
        image_seq_len=(56 // 14) ** 2 // 2**2,
        chat_template=SMOLVLM_CHAT,
    )
    video = {"video_processor_type": "SmolVLMVideoProcessor", **edges}
    save(out, tf.SmolVLMForConditionalGeneration(config), processor, video)


# ----------------------------------------------------------------------------------------- InternVL

INTERNVL_WORDS = Words(
    special=(
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<IMG_CONTEXT>",
        "<img>",
        "</img>",
        "<video>",
    ),
    eos="<|im_end|>",
    pad="<|endoftext|>",
    named=(
        ("start_image_token", "<img>"),
        ("end_image_token", "</img>"),
        ("context_image_token", "<IMG_CONTEXT>"),
        ("video_token", "<video>"),
    ),
)
INTERNVL_CHAT = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
{{- '<IMG_CONTEXT>\\n' -}}
{%- elif part['type'] == 'video' -%}
{{- '<video>\\n' -}}
{%- elif part['type'] == 'text' -%}
{{- part['text'] -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


def _internvl(out: Path, size: Size) -> None:
    tokenizer = INTERNVL_WORDS.byte_level()
    save_internvl(out, tokenizer, text_config(tokenizer, model_type="qwen2"))


def save_internvl(out: Path, tokenizer: Any, text: dict[str, Any]) -> None:
    """An InternVL with new weights around the language model of `text`, and its processor, whose
    images are cut into tiles."""
    config = tf.InternVLConfig(
        vision_config=vision_config(image_size=[56, 56], patch_size=[14, 14]),
        text_config=text,
        image_token_id=3,
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    square = {"height": 56, "width": 56}
    processor = image_only(tf.InternVLProcessor)(
        image_processor=GotOcr2ImageProcessorPil(
            size=square, crop_to_patches=True, min_patches=1, max_patches=4
        ),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=INTERNVL_CHAT,
    )
    video = {"video_processor_type": "InternVLVideoProcessor", "size": square}
    save(out, tf.InternVLForConditionalGeneration(config), processor, video)


# ------------------------------------------------------------------------------------------ Gemma 3

_GEMMA3_WORDS = Words(
    special=(
        "<pad>",
        "<eos>",
        "<bos>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<start_of_image>",
        "<end_of_image>",
        "<image_soft_token>",
    ),
    bos="<bos>",
    eos="<eos>",
    pad="<pad>",
    named=(
        ("boi_token", "<start_of_image>"),
        ("eoi_token", "<end_of_image>"),
        ("image_token", "<image_soft_token>"),
    ),
    # as in Gemma's own vocabulary, up to four line breaks are one token: those that the processor
    # writes around an image merge with the template's
    learned=("\n\n\n\n", "\n\n\n") * 30,
)

# A system turn is put before the first user turn's text, as the hub's template does.
_GEMMA3_CHAT = """\
{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}\
{%- set first = messages[0]['content'][0]['text'] + '\n\n' -%}{%- set rest = messages[1:] -%}\
{%- else -%}{%- set first = '' -%}{%- set rest = messages -%}{%- endif -%}\
{%- for message in rest -%}\
{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' + (first if loop.first else '') }}\
{%- for part in message['content'] -%}\
{%- if part['type'] == 'image' -%}{{ '<start_of_image>' }}\
{%- elif part['type'] == 'text' -%}{{ part['text'] | trim }}{%- endif -%}\
{%- endfor -%}{{ '<end_of_turn>\n' }}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"""  # noqa: E501


def _gemma3(out: Path, size: Size) -> None:
    tokenizer = _GEMMA3_WORDS.byte_level()
    config = tf.Gemma3Config(
        text_config=text_config(
            tokenizer,
            query_pre_attn_scalar=16,
            sliding_window=512,
            bos_token_id=2,
            eos_token_id=1,
        ),
        vision_config=vision_config(vision_use_head=False),
        mm_tokens_per_image=4,
        boi_token_index=5,
        eoi_token_index=6,
        image_token_index=7,
    )
    model = tf.Gemma3ForConditionalGeneration(config)
    # zeros at first
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.1)
    processor = tf.Gemma3Processor(
        image_processor=tf.Gemma3ImageProcessorPil(size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=_GEMMA3_CHAT,
    )
    save(out, model, processor)


# ---------------------------------------------------------------------------------------- no images


def _text_only(out: Path, size: Size) -> None:
    tokenizer = QWEN_WORDS.byte_level()
    tokenizer.chat_template = QWEN2_5_CHAT
    config = tf.LlamaConfig(**text_config(tokenizer, bos_token_id=0))
    model = tf.LlamaForCausalLM(config)
    _enliven(model)
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)


# ---------------------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class TinyModel:
    write: Callable[[Path, Size], None]
    """Writes the model folder."""
    small: bool = False
    """Whether there is a larger one for benchmarks."""
    both_ways: bool = False
    """Image tokens attend to each other in both directions."""
    images: bool = True
    """False: a language model without eyes, which must be refused."""
    needs: str = ""
    """A package that its processor needs beside those of the extra `hf`."""


MODELS = {
    "qwen2_5_vl": TinyModel(_qwen2_5_vl, small=True),
    "qwen3_vl": TinyModel(_qwen3_vl),
    "llava": TinyModel(_llava, small=True),
    "llava_onevision": TinyModel(_llava_onevision),
    "mllama": TinyModel(_mllama),
    "smolvlm": TinyModel(_smolvlm, needs="num2words"),
    "internvl": TinyModel(_internvl),
    "gemma3": TinyModel(_gemma3, both_ways=True),
    "text_only": TinyModel(_text_only, images=False),
}
ARCHITECTURES = tuple(n for n, m in MODELS.items() if m.images and not m.both_ways)
(BOTH_WAYS,) = (n for n, m in MODELS.items() if m.both_ways)
(NO_IMAGES,) = (n for n, m in MODELS.items() if not m.images)


# ------------------------------------------------------------------------ names for other builders

# The scripts of ../shared/reference/families, which build tiny models of further families, import
# these names; tests/test_reference_scripts.py holds them.
_Words, _QWEN_WORDS, _qwen_ids, _save = Words, QWEN_WORDS, qwen_ids, save
_QWEN2_5_CHAT, _QWEN3_CHAT = QWEN2_5_CHAT, QWEN3_CHAT
_LLAVA_WORDS, _LLAVA_CHAT = LLAVA_WORDS, LLAVA_CHAT
_SMOLVLM_WORDS, _SMOLVLM_CHAT = SMOLVLM_WORDS, SMOLVLM_CHAT
_INTERNVL_WORDS, _INTERNVL_CHAT = INTERNVL_WORDS, INTERNVL_CHAT
reference_names.install()
