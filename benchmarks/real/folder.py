"""An InternVL folder (157 M parameters) of the tower and the language model, in fp16.

    image of 112 x 112 pixels -> 64 patches of 384 -> pixel shuffle: 16 of 1,536 -> projector -> 576

The projector (1.2 M parameters) is new and untrained. `thresher --model FOLDER` accepts it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.real.language import END, IMAGE, PAD, language_model
from benchmarks.real.tower import CONFIG, IMAGE_TOKENS, PIXELS, tower_weights

from thresher.backends.hf.processor import image_only
from thresher.storage.atomic import remove_stale, temporary_path

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet, as DINOv2 was trained
TEMPLATE = (  # SmolLM2's, with images
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{- '<IMG_CONTEXT>\\n' -}}"
    "{%- elif part['type'] == 'text' -%}{{- part['text'] -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}{{- '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def build(tower_file: Path, language_file: Path, out: Path) -> None:
    """Write the folder with an untrained projector, unless it exists. The same files give the same
    weights."""
    if out.exists():
        return
    import torch
    import transformers

    text_model, tokenizer = language_model(language_file)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (END, PAD, IMAGE)}
    text = text_model.config.to_dict() | {
        "vocab_size": len(tokenizer),
        "eos_token_id": ids[END],
        "pad_token_id": ids[PAD],
    }
    text.pop("quantization_config", None)
    torch.manual_seed(0)  # the projector's initial weights
    model = transformers.InternVLForConditionalGeneration(
        transformers.InternVLConfig(
            vision_config=CONFIG,
            text_config=text,
            image_token_id=ids[IMAGE],
            image_seq_length=IMAGE_TOKENS,
            downsample_ratio=0.5,
            vision_feature_layer=-1,
            tie_word_embeddings=True,
        )
    ).float()
    model.model.language_model.load_state_dict(text_model.model.state_dict())
    model.lm_head.weight = model.model.language_model.embed_tokens.weight
    model.model.vision_tower.load_state_dict(tower_weights(tower_file))
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=ids[END], pad_token_id=ids[PAD]
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(out.parent)
    temporary = temporary_path(out.parent)
    save(model, processor(tokenizer), temporary)
    temporary.rename(out)


def processor(tokenizer: Any) -> Any:
    """Squeezes a whole image to PIXELS x PIXELS."""
    import transformers
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
        GotOcr2ImageProcessorPil,
    )

    images = GotOcr2ImageProcessorPil(
        size={"height": PIXELS, "width": PIXELS},
        crop_to_patches=False,
        min_patches=1,
        max_patches=1,
        image_mean=MEAN,
        image_std=STD,
    )
    return image_only(transformers.InternVLProcessor)(
        image_processor=images,
        tokenizer=tokenizer,
        image_seq_length=IMAGE_TOKENS,
        chat_template=TEMPLATE,
    )


def save(model: Any, processor: Any, out: Path) -> None:
    """Write model (as fp16) and processor to `out`."""
    model.half().save_pretrained(out)
    processor.save_pretrained(out)
    # transformers' own loader wants a video processor to be named
    file = out / "processor_config.json"
    video = {
        "video_processor_type": "InternVLVideoProcessor",
        "size": {"height": PIXELS, "width": PIXELS},
    }
    config = json.loads(file.read_text("utf-8")) | {"video_processor": video}
    file.write_text(json.dumps(config, indent=2), "utf-8")


def replace_weights(base: Path, model: Any, out: Path) -> None:
    """Write `base` with the weights of `model` (as fp16) to `out`, which appears when complete."""
    remove_stale(out.parent)
    temporary = temporary_path(out.parent)
    shutil.copytree(base, temporary)
    model.half().save_pretrained(temporary)
    temporary.rename(out)
