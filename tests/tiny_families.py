"""Tiny random models of further families, whose layers differ from those of `tests/tiny_models.py`:
linear attention with a recurrent state, sliding windows that are shorter than a row, image tokens
that attend to each other in some layers only.

`build` and `load` of `tests/tiny_models.py` take these names, too.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import transformers as tf
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests import tiny_models as base
from thresher.backends.hf.processor import image_only, torchvision_works

WINDOW = 40
"""Window of a sliding layer in tokens: shorter than most rows, longer than self-check rows."""

_AYA_WORDS = base._Words(
    special=(
        *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<|START_OF_IMG|>"),
        *("<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE_GLOBAL"),
        *(f"TILE_{i}" for i in range(1, 13)),
    ),
    eos="<|im_end|>",
    pad="<|endoftext|>",
)


def _text(tokenizer: Any, **more: Any) -> dict[str, Any]:
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


def _qwen3_5(out: Path, size: base.Size) -> None:
    """Three layers of linear attention and one of full attention."""
    tokenizer = base._QWEN_WORDS.byte_level()
    text = _text(
        tokenizer,
        num_hidden_layers=4,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [2, 1, 1],
            "mrope_interleaved": True,
            "partial_rotary_factor": 0.5,
        },
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
    )
    vision = {
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
    config = tf.Qwen3_5Config(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        **base._qwen_ids(tokenizer),
    )
    shape = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2}
    processor = image_only(tf.Qwen3VLProcessor)(
        image_processor=Qwen2VLImageProcessorPil(
            min_pixels=32 * 32 * 4, max_pixels=32 * 32 * 16, **shape
        ),
        tokenizer=tokenizer,
        chat_template=base._QWEN3_CHAT,
    )
    video = {"video_processor_type": "Qwen3VLVideoProcessor", **shape}
    base._save(out, tf.Qwen3_5ForConditionalGeneration(config), processor, video)


def _aya_vision(out: Path, size: base.Size) -> None:
    """Cohere 2: a sliding and a full layer."""
    tokenizer = _AYA_WORDS.byte_level()
    config = tf.AyaVisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
            "vision_use_head": False,
        },
        text_config=_text(
            tokenizer,
            model_type="cohere2",
            sliding_window=WINDOW,
            layer_types=["sliding_attention", "full_attention"],
        ),
        downsample_factor=2,
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    processor = tf.AyaVisionProcessor(
        image_processor=GotOcr2ImageProcessorPil(
            size={"height": 56, "width": 56}, crop_to_patches=True, min_patches=1, max_patches=4
        ),
        tokenizer=tokenizer,
        patch_size=14,
        img_size=56,
        downsample_factor=2,
        chat_template=base._INTERNVL_CHAT.replace("<IMG_CONTEXT>\\n", "<image>"),
    )
    base._save(out, tf.AyaVisionForConditionalGeneration(config), processor)


def _internvl_gptoss(out: Path, size: base.Size) -> None:
    """gpt-oss: experts, attention sinks, a sliding and a full layer."""
    tokenizer = base._INTERNVL_WORDS.byte_level()
    config = tf.InternVLConfig(
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "image_size": [56, 56],
            "patch_size": [14, 14],
        },
        text_config=_text(
            tokenizer,
            model_type="gpt_oss",
            num_local_experts=4,
            num_experts_per_tok=2,
            sliding_window=WINDOW,
            layer_types=["sliding_attention", "full_attention"],
            rope_parameters={"rope_type": "default", "rope_theta": 1e5},
        ),
        image_token_id=3,
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    base.save_internvl(out, config, tokenizer)


_GEMMA4_WORDS = base._Words(
    special=(
        *("<pad>", "<eos>", "<bos>", "<|turn>", "<turn|>", "<|image>", "<image|>", "<|image|>"),
        *("<|audio>", "<audio|>", "<|audio|>", "<|video|>"),
    ),
    bos="<bos>",
    eos="<eos>",
    pad="<pad>",
    named=(
        *(("boi_token", "<|image>"), ("eoi_token", "<image|>"), ("image_token", "<|image|>")),
        *(("boa_token", "<|audio>"), ("eoa_token", "<audio|>"), ("audio_token", "<|audio|>")),
    ),
)
_GEMMA4_CHAT = """\
{{ bos_token }}{%- for m in messages -%}\
{{ '<|turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}\
{%- for p in m['content'] -%}\
{%- if p['type'] == 'image' -%}<|image|>{%- elif 'text' in p -%}{{ p['text'] | trim }}{%- endif -%}\
{%- endfor -%}{{ '<turn|>\n' }}{%- endfor -%}\
{%- if add_generation_prompt -%}{{ '<|turn>model\n' }}{%- endif -%}"""


def _gemma4(out: Path, size: base.Size, both_ways: bool = False) -> None:
    """Sliding and full layers with heads of different widths; its processor has placeholders for
    audio and video.

    both_ways: image tokens attend to each other in both directions, in the sliding layers.
    """
    tokenizer = _GEMMA4_WORDS.byte_level()
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(token)
        for name, token in (
            *(("boi", "<|image>"), ("eoi", "<image|>"), ("image", "<|image|>")),
            *(("video", "<|video|>"), ("boa", "<|audio>"), ("audio", "<|audio|>")),
        )
    }
    text = _text(
        tokenizer,
        num_hidden_layers=4,
        global_head_dim=32,
        vocab_size_per_layer_input=len(tokenizer),
        hidden_size_per_layer_input=16,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"] * 2,
        num_kv_shared_layers=0,
        use_bidirectional_attention="vision" if both_ways else None,
        bos_token_id=2,
        eos_token_id=1,
    )
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "global_head_dim": 16,
        "patch_size": 16,
        "pooling_kernel_size": 2,
        "position_embedding_size": 256,
    }
    config = tf.Gemma4Config(
        text_config=text, vision_config=vision, audio_config=None, eoa_token_index=9, **ids
    )
    shape = {"patch_size": 16, "pooling_kernel_size": 2, "max_soft_tokens": 70}
    processor = image_only(tf.Gemma4Processor)(
        feature_extractor=tf.Gemma4AudioFeatureExtractor(),
        image_processor=Gemma4ImageProcessorPil(**shape),
        tokenizer=tokenizer,
        video_processor=None,
        chat_template=_GEMMA4_CHAT,
    )
    video = {"video_processor_type": "Gemma4VideoProcessor", **shape}
    base._save(out, tf.Gemma4ForConditionalGeneration(config), processor, video)


def _llava_next(out: Path, size: base.Size) -> None:
    """Images in tiles, on the grid that fits them best."""
    tokenizer = base._LLAVA_WORDS.sentencepiece_like()
    grids = [[56, 112], [112, 56], [112, 112]]
    config = tf.LlavaNextConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
            "projection_dim": 32,
        },
        text_config=_text(
            tokenizer,
            model_type="llama",
            bos_token_id=1,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grids,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    processor = tf.LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(
            size={"shortest_edge": 56},
            crop_size={"height": 56, "width": 56},
            image_grid_pinpoints=grids,
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=base._LLAVA_CHAT,
    )
    base._save(out, tf.LlavaNextForConditionalGeneration(config), processor)


_PIXTRAL_WORDS = base._Words(
    special=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "[IMG]", "[IMG_BREAK]", "[IMG_END]"),
    eos="<|im_end|>",
    pad="<|endoftext|>",
)


def _pixtral(out: Path, size: base.Size) -> None:
    """Pixtral: images of any shape, with a token at the end of each row of patches."""
    from transformers.models.pixtral.processing_pixtral import PixtralProcessor

    tokenizer = _PIXTRAL_WORDS.byte_level()
    config = tf.LlavaConfig(
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 112,
            "patch_size": 14,
            "head_dim": 16,
        },
        text_config=_text(tokenizer, model_type="mistral", sliding_window=None),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        image_seq_length=1,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    processor = PixtralProcessor(
        image_processor=PixtralImageProcessorPil(
            size={"longest_edge": 112}, patch_size={"height": 14, "width": 14}
        ),
        tokenizer=tokenizer,
        patch_size=14,
        spatial_merge_size=1,
        chat_template=base._INTERNVL_CHAT.replace("<IMG_CONTEXT>\\n", "[IMG]"),
    )
    base._save(out, tf.LlavaForConditionalGeneration(config), processor)


FAMILIES = {
    "llava_next": base.TinyModel(_llava_next),
    "qwen3_5": base.TinyModel(_qwen3_5),
    "gemma4": base.TinyModel(_gemma4),
    "gemma4_both_ways": base.TinyModel(partial(_gemma4, both_ways=True)),
    "aya_vision": base.TinyModel(_aya_vision),
    "internvl_gptoss": base.TinyModel(_internvl_gptoss),
}
if torchvision_works():  # its processor cannot be imported without
    FAMILIES["pixtral"] = base.TinyModel(_pixtral)
