"""Tiny random models of further families. `SPECIAL`: their layers differ from those of
`tests/tiny_models.py` (linear attention with a recurrent state, sliding windows that are shorter
than a row, image tokens that attend to each other in some layers only); those of `OTHERS` do not.

`build` and `load` of `tests/tiny_models.py` take these names, too. Longer than 400 lines because it
is configuration.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import transformers as tf
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
from transformers.models.glm46v.image_processing_pil_glm46v import Glm46VImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)
from transformers.models.ovis2.image_processing_pil_ovis2 import Ovis2ImageProcessorPil

from tests import tiny_models as base
from thresher.backends.hf.processor import image_only

WINDOW = 40
"""Tokens that a sliding layer sees: fewer than most rows have, more than the self-check's."""

_AYA_WORDS = base.Words(
    special=(
        *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<|START_OF_IMG|>"),
        *("<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE_GLOBAL"),
        *(f"TILE_{i}" for i in range(1, 13)),
    ),
    eos="<|im_end|>",
    pad="<|endoftext|>",
)


_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def _qwen3_5(out: Path, size: base.Size, experts: bool = False) -> None:
    """Three layers of linear attention and one of full attention."""
    tokenizer = base.QWEN_WORDS.byte_level()
    text = base.text_config(
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
        **(_EXPERTS | {"shared_expert_intermediate_size": 32} if experts else {}),
    )
    config = (tf.Qwen3_5MoeConfig if experts else tf.Qwen3_5Config)(
        text_config=text,
        vision_config=base.QWEN3_VISION,
        tie_word_embeddings=True,
        **base.qwen_ids(tokenizer),
    )
    base.save_qwen(out, config, tokenizer, 16)


def _qwen3_vl_moe(out: Path, size: base.Size) -> None:
    tokenizer = base.QWEN_WORDS.byte_level()
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2]}
    text = base.text_config(
        tokenizer,
        num_hidden_layers=3,
        rope_parameters=rope | {"mrope_interleaved": True},
        decoder_sparse_step=1,
        mlp_only_layers=[],
        **_EXPERTS,
    )
    config = tf.Qwen3VLMoeConfig(
        text_config=text,
        vision_config=base.QWEN3_VISION | {"depth": 3, "deepstack_visual_indexes": [0, 1]},
        tie_word_embeddings=True,
        **base.qwen_ids(tokenizer),
    )
    base.save_qwen(out, config, tokenizer, 16)


def _qwen2_vl(out: Path, size: base.Size) -> None:
    tokenizer = base.QWEN_WORDS.byte_level()
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    config = tf.Qwen2VLConfig(
        text_config=base.text_config(tokenizer, rope_parameters=rope),
        vision_config={
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 64,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        tie_word_embeddings=True,
        **base.qwen_ids(tokenizer),
    )
    base.save_qwen(out, config, tokenizer, 14)


def _aya_vision(out: Path, size: base.Size) -> None:
    """Cohere 2: a sliding and a full layer."""
    tokenizer = _AYA_WORDS.byte_level()
    config = tf.AyaVisionConfig(
        vision_config=base.vision_config(model_type="siglip_vision_model", vision_use_head=False),
        text_config=base.text_config(
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
        chat_template=base.INTERNVL_CHAT.replace("<IMG_CONTEXT>\\n", "<image>"),
    )
    base.save(out, tf.AyaVisionForConditionalGeneration(config), processor)


def _internvl_gptoss(out: Path, size: base.Size) -> None:
    """gpt-oss: experts, attention sinks, a sliding and a full layer."""
    tokenizer = base.INTERNVL_WORDS.byte_level()
    text = base.text_config(
        tokenizer,
        model_type="gpt_oss",
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={"rope_type": "default", "rope_theta": 1e5},
    )
    base.save_internvl(out, tokenizer, text)


_GEMMA4_WORDS = base.Words(
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
    """Sliding and full layers with heads of different widths; its processor has places for audio
    and video.

    both_ways: image tokens see each other in both directions, in the sliding layers.
    """
    tokenizer = _GEMMA4_WORDS.byte_level()
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(token)
        for name, token in (
            *(("boi", "<|image>"), ("eoi", "<image|>"), ("image", "<|image|>")),
            *(("video", "<|video|>"), ("boa", "<|audio>"), ("audio", "<|audio|>")),
        )
    }
    text = base.text_config(
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
    base.save(out, tf.Gemma4ForConditionalGeneration(config), processor, video)


_GLM_WORDS = base.Words(
    special=(
        *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image|>", "<|video|>"),
        *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
    ),
    eos="<|im_end|>",
    pad="<|endoftext|>",
    named=(("image_token", "<|image|>"), ("video_token", "<|video|>")),
)


def _glm(out: Path, size: base.Size, version: str = "4v") -> None:
    """GLM-4.1V or GLM-4.6V."""
    tokenizer = _GLM_WORDS.byte_level()
    of = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
    text = base.text_config(tokenizer, rope_parameters=rope | {"partial_rotary_factor": 1.0})
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "num_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 64,
        "intermediate_size": 128,
    }
    ids = {f"{name}_token_id": of(f"<|{name}|>") for name in ("image", "video")}
    for kind in ("image", "video"):
        ids[f"{kind}_start_token_id"] = of(f"<|begin_of_{kind}|>")
        ids[f"{kind}_end_token_id"] = of(f"<|end_of_{kind}|>")
    if version == "4v":
        config = tf.Glm4vConfig(text_config=text, vision_config=vision, **ids)
        kind, images = tf.Glm4vProcessor, Glm4vImageProcessorPil
    else:
        config = tf.Glm46VConfig(
            text_config={"model_type": "glm4v_text", **text},
            vision_config={"model_type": "glm4v_vision", **vision},
            **ids,
        )
        kind, images = tf.Glm46VProcessor, Glm46VImageProcessorPil
    processor = image_only(kind)(
        image_processor=images(
            patch_size=14,
            merge_size=2,
            temporal_patch_size=2,
            size={"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 32},
        ),
        tokenizer=tokenizer,
        chat_template=_marked_chat("<|begin_of_image|><|image|><|end_of_image|>"),
    )
    video = {
        "video_processor_type": "Glm4vVideoProcessor" if version == "4v" else "Glm46VVideoProcessor"
    }
    base.save(out, tf.AutoModelForImageTextToText.from_config(config), processor, video)


def _marked_chat(image: str) -> str:
    """A template that writes `image` for each image, and every turn between `<|im_start|>` and
    `<|im_end|>`."""
    return base.INTERNVL_CHAT.replace("<IMG_CONTEXT>\\n", image)


def _llava_next(out: Path, size: base.Size) -> None:
    """Images in tiles, on the grid that fits them best."""
    tokenizer = base.LLAVA_WORDS.sentencepiece_like()
    grids = [[56, 112], [112, 56], [112, 112]]
    config = tf.LlavaNextConfig(
        vision_config=base.vision_config(
            model_type="clip_vision_model", num_hidden_layers=3, projection_dim=32
        ),
        text_config=base.text_config(
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
        chat_template=base.LLAVA_CHAT,
    )
    base.save(out, tf.LlavaNextForConditionalGeneration(config), processor)


def _idefics3(out: Path, size: base.Size) -> None:
    tokenizer = base.SMOLVLM_WORDS.byte_level()
    config = tf.Idefics3Config(**base.smolvlm_config(tokenizer))
    processor = tf.Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil(
            do_image_splitting=True, size={"longest_edge": 112}, max_image_size={"longest_edge": 56}
        ),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=base.SMOLVLM_CHAT,
    )
    base.save(out, tf.Idefics3ForConditionalGeneration(config), processor)


_PIXTRAL_WORDS = base.Words(
    special=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "[IMG]", "[IMG_BREAK]", "[IMG_END]"),
    eos="<|im_end|>",
    pad="<|endoftext|>",
)


_PIXTRAL_VISION = base.vision_config(model_type="pixtral", image_size=112, head_dim=16)


def _pixtral(out: Path, size: base.Size) -> None:
    """Pixtral: images of any shape, with a token at the end of each row of patches."""
    tokenizer = _PIXTRAL_WORDS.byte_level()
    config = tf.LlavaConfig(
        vision_config=_PIXTRAL_VISION,
        text_config=base.text_config(tokenizer, model_type="mistral", sliding_window=None),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        image_seq_length=1,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    _save_pixtral(out, config, tokenizer, 1)


def _mistral3(out: Path, size: base.Size) -> None:
    """Mistral Small 3: Pixtral's vision tower, whose patches are merged."""
    tokenizer = _PIXTRAL_WORDS.byte_level()
    config = tf.Mistral3Config(
        vision_config=_PIXTRAL_VISION,
        text_config=base.text_config(tokenizer, model_type="mistral", sliding_window=None),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        spatial_merge_size=2,
    )
    _save_pixtral(out, config, tokenizer, 2)


def _save_pixtral(out: Path, config: Any, tokenizer: Any, merge: int) -> None:
    """A model with new weights, and a processor that merges `merge` x `merge` patches."""
    processor = tf.PixtralProcessor(
        image_processor=tf.PixtralImageProcessor(
            size={"longest_edge": 112}, patch_size={"height": 14, "width": 14}
        ),
        tokenizer=tokenizer,
        patch_size=14,
        spatial_merge_size=merge,
        chat_template=_marked_chat("[IMG]"),
    )
    base.save(out, tf.AutoModelForImageTextToText.from_config(config), processor)


_OVIS_INDICATORS = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
_OVIS_WORDS = base.Words(
    special=(
        *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<IMG_ATOM>"),
        *_OVIS_INDICATORS,
    ),
    eos="<|im_end|>",
    pad="<|endoftext|>",
)


def _ovis2(out: Path, size: base.Size) -> None:
    """Image tokens are mixtures of a visual vocabulary, of which the tokens around an image are
    words, too."""
    tokenizer = _OVIS_WORDS.byte_level()
    config = tf.Ovis2Config(
        vision_config=base.vision_config(
            vocab_size=37, hidden_stride=2, num_visual_indicator_tokens=len(_OVIS_INDICATORS)
        ),
        text_config=base.text_config(tokenizer, model_type="qwen2"),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=tokenizer.convert_tokens_to_ids(list(_OVIS_INDICATORS)),
        vocab_size=len(tokenizer),
        hidden_size=base.text_config(tokenizer)["hidden_size"],
    )
    processor = tf.Ovis2Processor(
        image_processor=Ovis2ImageProcessorPil(
            size={"height": 56, "width": 56}, crop_to_patches=True, min_patches=1, max_patches=4
        ),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=_marked_chat("<image>"),
    )
    base.save(out, tf.Ovis2ForConditionalGeneration(config), processor)


_LLAMA4_WORDS = base.Words(
    special=(
        *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image|>", "<|image_start|>"),
        *("<|image_end|>", "<|patch|>", "<|tile_x_separator|>", "<|tile_y_separator|>"),
    ),
    eos="<|im_end|>",
    pad="<|endoftext|>",
)


def _llama4(out: Path, size: base.Size) -> None:
    """Images in tiles; experts; attention in chunks that are shorter than most rows."""
    tokenizer = _LLAMA4_WORDS.byte_level()
    number = tokenizer.convert_tokens_to_ids
    width = base.text_config(tokenizer)["hidden_size"]
    config = tf.Llama4Config(
        vision_config={
            **{"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2},
            **{"num_attention_heads": 2, "image_size": 56, "patch_size": 14},
            **dict.fromkeys(
                ("vision_output_dim", "projector_input_dim", "projector_output_dim"), 32
            ),
        },
        text_config=base.text_config(
            tokenizer,
            hidden_size=width,
            intermediate_size=64,
            intermediate_size_mlp=128,
            num_hidden_layers=4,
            head_dim=16,
            num_local_experts=2,
            num_experts_per_tok=1,
            interleave_moe_layer_step=2,
            attention_chunk_size=WINDOW,
            no_rope_layer_interval=4,
        ),
        boi_token_index=number("<|image_start|>"),
        eoi_token_index=number("<|image_end|>"),
        image_token_index=number("<|patch|>"),
    )
    processor = tf.Llama4Processor(
        image_processor=tf.Llama4ImageProcessor(size={"height": 56, "width": 56}, max_patches=4),
        tokenizer=tokenizer,
        patch_size=14,
        chat_template=_marked_chat("<|image|>"),
    )
    base.save(out, tf.Llama4ForConditionalGeneration(config), processor)


_MINICPM_NAMES = {
    "image_token": "<image_pad>",
    "video_token": "<video_pad>",
    "image_start_token": "<image>",
    "image_end_token": "</image>",
    "slice_start_token": "<slice>",
    "slice_end_token": "</slice>",
    "image_id_start_token": "<image_id>",
    "image_id_end_token": "</image_id>",
}
_MINICPM_WORDS = base.Words(
    special=("<|endoftext|>", "<|im_start|>", "<|im_end|>", *_MINICPM_NAMES.values()),
    eos="<|im_end|>",
    pad="<|endoftext|>",
    named=tuple(_MINICPM_NAMES.items()),
)


def _minicpmv4_6(out: Path, size: base.Size) -> None:
    """Images are numbered in a conversation, and large ones are cut into slices."""
    tokenizer = _MINICPM_WORDS.byte_level()
    config = tf.MiniCPMV4_6Config(
        text_config=base.text_config(tokenizer, model_type="qwen3"),
        vision_config=base.vision_config(num_hidden_layers=3, image_size=112, insert_layer_id=1),
        insert_layer_id=1,
        image_size=112,
        image_token_id=tokenizer.convert_tokens_to_ids("<image_pad>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video_pad>"),
    )
    processor = tf.MiniCPMV4_6Processor(
        image_processor=tf.MiniCPMV4_6ImageProcessor(
            scale_resolution=112, patch_size=14, max_slice_nums=2
        ),
        video_processor=tf.MiniCPMV4_6VideoProcessor(),
        tokenizer=tokenizer,
        chat_template=_marked_chat("<image_pad>"),
    )
    base.save(out, tf.MiniCPMV4_6ForConditionalGeneration(config), processor)


SPECIAL = {
    "qwen3_5": base.TinyModel(_qwen3_5),
    "gemma4": base.TinyModel(_gemma4),
    "gemma4_both_ways": base.TinyModel(partial(_gemma4, both_ways=True)),
    "aya_vision": base.TinyModel(_aya_vision),
    "internvl_gptoss": base.TinyModel(_internvl_gptoss),
}
OTHERS = {
    "qwen2_vl": base.TinyModel(_qwen2_vl),
    "qwen3_vl_moe": base.TinyModel(_qwen3_vl_moe),
    "qwen3_5_moe": base.TinyModel(partial(_qwen3_5, experts=True)),
    "glm4v": base.TinyModel(_glm),
    "glm46v": base.TinyModel(partial(_glm, version="4.6v")),
    "llava_next": base.TinyModel(_llava_next),
    "idefics3": base.TinyModel(_idefics3),
    "ovis2": base.TinyModel(_ovis2),
    "llama4": base.TinyModel(_llama4, needs="torchvision"),
    "minicpmv4_6": base.TinyModel(_minicpmv4_6, needs="torchvision"),
    "pixtral": base.TinyModel(_pixtral, needs="torchvision"),
    "mistral3": base.TinyModel(_mistral3, needs="torchvision"),
}
FAMILIES = {**SPECIAL, **OTHERS}
