"""The size of a model: parameters, and what a token and an image patch cost. Plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

FLOPS_PER_PARAMETER = 2  # a multiplication and an addition for each weight of a matrix


@dataclass(frozen=True)
class ModelSize:
    """What a model's config.json says about its cost.

    parameters: all of them, embeddings included.
    language: parameters of the language model that each token uses: without its embeddings, and of
        experts only those that are chosen.
    vision: parameters of the vision tower.
    patches_per_token: patches that the vision tower sees for each image token of the prompt.
    layers, hidden, intermediate: of the language model; for experts, `intermediate` is that of all
        chosen ones.
    vision_hidden, vision_intermediate: of the vision tower; 0 where its configuration names none.
    vocabulary: number of tokens.
    adapter_parameters: of LoRA adapters of rank 1 on the language model.
    """

    parameters: int
    language: int
    vision: int
    patches_per_token: float
    layers: int
    hidden: int
    intermediate: int
    vision_hidden: int
    vision_intermediate: int
    vocabulary: int
    adapter_parameters: int

    def flops(self, tokens: float, image_tokens: float) -> float:
        """Floating point operations of a forward pass: 2 for each parameter and token or patch.
        Attention over long prompts and the logits of the answers are not included.

        Arguments:
            tokens: of the prompts and answers, image tokens included.
            image_tokens: of them, those of images.
        """
        patches = image_tokens * self.patches_per_token
        return FLOPS_PER_PARAMETER * (self.language * tokens + self.vision * patches)
