"""A model that transformers does not know, and the adapter that runs it in thresher.

`TinyCaptioner` stands for a model with its own code: a recurrent network over bytes that reads an
image as sixteen tokens. `TinyAdapter` is all that thresher needs. docs/adapters.md explains it.

    python examples/tiny_adapter.py out/tiny         # writes a model folder with random weights
    cd examples
    thresher evaluate --data TEST --model ../out/tiny --adapter tiny_adapter:TinyAdapter
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thresher.backends.adapted import Adapter, Encoded, Message

END, IMAGE, VOCABULARY = 256, 257, 258  # after the 256 bytes
PATCHES = 16  # tokens of an image


class TinyCaptioner(torch.nn.Module):
    """Bytes and image patches through a GRU; no class of transformers."""

    def __init__(self, hidden: int = 48) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(VOCABULARY, hidden)
        self.see = torch.nn.Linear(3, hidden)
        self.gru = torch.nn.GRU(hidden, hidden, batch_first=True)
        self.head = torch.nn.Linear(hidden, VOCABULARY)

    def forward(self, ids: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """ids: int64 [tokens]; patches: [image tokens, 3]. Returns logits [tokens, vocabulary]."""
        states = self.embed(ids)
        states = states.masked_scatter((ids == IMAGE)[:, None], self.see(patches))
        return self.head(self.gru(states[None])[0][0])


class TinyAdapter(Adapter):
    """Runs `TinyCaptioner` in thresher."""

    version = 1
    stop_ids = frozenset({END})
    context = 4096

    def __init__(self, folder: Path, device: str, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.model = TinyCaptioner()
        self.model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
        self.model.eval().to(device, dtype)

    def encode(self, messages: Sequence[Message], images: Sequence[Any], prompt: bool) -> Encoded:
        ids: list[int] = []
        answers = []
        for message in messages:
            ids += f"{message.role}: ".encode()
            start = len(ids)
            for part in message.parts:
                ids += [IMAGE] * PATCHES if part is None else part.encode()
            if message.role == "assistant":
                answers.append((start, len(ids)))
            ids.append(END)
        if prompt:
            ids += b"assistant: "
        small = [np.asarray(image.resize((4, 4)), np.float32) / 255 for image in images]
        pixels = np.concatenate(small).reshape(-1, 3) if small else np.zeros((0, 3), np.float32)
        patches = torch.from_numpy(pixels).to(self.device, self.dtype)
        return Encoded(ids, answers, {"patches": patches})

    def logits(self, row: Encoded) -> torch.Tensor:
        ids = torch.tensor(row.ids, device=self.device)
        return self.model(ids, row.inputs["patches"])

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < 256).decode("utf-8", "replace")


def write_model(folder: Path, seed: int = 0) -> None:
    """A model folder with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    torch.save(TinyCaptioner().state_dict(), folder / "model.pt")
    config = {"model_type": "tiny_captioner", "auto_map": {"AutoModel": "modeling.TinyCaptioner"}}
    (folder / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    write_model(Path(sys.argv[1]))
