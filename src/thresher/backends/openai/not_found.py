"""Why a server answers HTTP 404: it does not have the model, or has nothing of the kind that is
asked for. Which of them, its list of models tells."""

from __future__ import annotations

from collections.abc import Sequence

from thresher.backends.openai.address import Address
from thresher.errors import CapabilityError, ModelError, NotAModel, ServerError

SHOWN = 20  # names of models


def not_found(
    address: Address, names: Sequence[str] | None, detail: str, embeddings: bool, begun: bool
) -> ModelError:
    """The error to raise.

    Arguments:
        address: the server and the model.
        names: of the server's models; None: it does not list them.
        detail: what it answered.
        embeddings: whether embeddings were asked for, else chat completions.
        begun: whether it has answered requests of this kind before.

    The command is wrong (exit code 2) where the list shows it and nothing was answered before.
    """
    model = f"The server {address.base} has no model {address.model!r}"
    what = "embeddings" if embeddings else "chat completions"
    do = (
        " vLLM gives them if it is started for that: `vllm serve MODEL --runner pooling`."
        if embeddings
        else " The URL ends in /v1 for most servers; vLLM started with `--runner pooling` gives "
        "embeddings only."
    )
    if names is None or begun:
        where = "" if embeddings else " at this URL"
        return ServerError(
            f"{model}, or gives no {what}{where} ({detail}).{do if embeddings else ''} Its models "
            f"are listed at {address.base}/models."
        )
    if address.model in names:
        return CapabilityError(
            f"The server {address.base} has the model {address.model!r}, but gives no {what} "
            f"({detail}). No row was sent.{do}"
        )
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    listed = f"It has: {', '.join(names[:SHOWN])}{more}." if names else "It has none."
    return NotAModel(f"{model} ({detail}). No row was sent. {listed}")
