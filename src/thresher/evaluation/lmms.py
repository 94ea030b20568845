"""Public benchmarks with lmms-eval, in a separate process: it pins other versions of torch and
transformers.

Finds the command `lmms-eval` (or the module, if it is installed in this environment), runs it on
the same model and reads its results file. Writes into the given folder; the output of lmms-eval
goes to stderr.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from thresher.errors import ConfigError, MissingExtra, ModelError, ThresherError, opt
from thresher.request.image_pixels import ImagePixels
from thresher.text import parse_json

ADAPTERS = {
    "internvl": "internvl_hf",
    "llava": "llava_hf",
    "llava_next": "llava_hf",
    "llava_onevision": "llava_hf",
    "mllama": "llama_vision",
    "qwen2_vl": "qwen2_vl",
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen3_vl": "qwen3_vl",
}
"""model_type of config.json -> lmms-eval's name for the model class."""
BOUNDED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")  # model classes with min_pixels and max_pixels


class LmmsEvalFailed(ThresherError):
    """lmms-eval failed or wrote no results."""


def find_command() -> list[str]:
    """The command line of lmms-eval. Raises MissingExtra if it is not installed."""
    if found := shutil.which("lmms-eval"):
        return [found]
    if importlib.util.find_spec("lmms_eval") is not None:
        return [sys.executable, "-m", "lmms_eval"]
    raise MissingExtra(
        " needs lmms-eval, which is not installed. It pins other versions of torch and "
        "transformers than thresher, so install it in an environment of its own, with the command "
        "on the PATH: pipx install lmms-eval",
        option="lmms_eval",
    )


def model_arguments(
    model: str,
    folder: Path | None,
    architecture: str,
    adapter: str | None,
    image_pixels: ImagePixels | None = None,
) -> list[str]:
    """`--model … --model_args …` for lmms-eval.

    Arguments:
        model: the model's name: a hub id, if `folder` is None.
        folder: the model's folder.
        architecture: the `model_type` of its config.json.
        adapter: lmms-eval's name for the model class; None: derived from the architecture.
        image_pixels: bounds on the pixels of an image.

    Raises ConfigError, ModelError.
    """
    if adapter is None and architecture not in ADAPTERS:
        raise ConfigError(
            f": lmms-eval's model class for {architecture!r} is unknown. Give it with "
            f"{opt('lmms_eval_model')}; known: {', '.join(sorted(ADAPTERS))}.",
            option="lmms_eval",
        )
    if folder is not None and not (folder / "config.json").is_file():
        raise ModelError(
            f": {model} is an adapter; lmms-eval needs a whole model. Merge it first.",
            option="lmms_eval",
        )
    name, _, revision = model.partition("@")
    source = f"pretrained={folder.resolve() if folder is not None else name}"
    if "," in source:
        raise ConfigError(
            f": the path {source.removeprefix('pretrained=')} contains a comma, at "
            f"which "
            "lmms-eval splits it.",
            option="lmms_eval",
        )
    if folder is None and revision:
        source += f",revision={revision}"
    called = adapter or ADAPTERS[architecture]
    if image_pixels is not None:
        if called not in BOUNDED:
            raise ConfigError(
                f": lmms-eval's {called} has no setting for that. Leave {opt('lmms_eval')} out, or "
                f"give a model folder whose own files have these bounds (thresher train writes one "
                f"with {opt('merge', True)}), without this option.",
                option="image_pixels",
                value=image_pixels,
            )
        source += f",max_pixels={image_pixels.most}"
        source += f",min_pixels={image_pixels.least}" if image_pixels.least else ""
    return ["--model", called, "--model_args", source]


def run_tasks(model: list[str], tasks: str, out: Path) -> dict[str, dict[str, float]]:
    """Run `tasks` and return task -> metric -> value.

    Arguments:
        model: from `model_arguments`.
        tasks: names, comma-separated.
        out: a folder for lmms-eval's files.

    Raises MissingExtra, LmmsEvalFailed.
    """
    call = [
        *find_command(),
        *model,
        "--tasks",
        tasks,
        "--batch_size",
        "1",
        "--output_path",
        str(out),
        "--log_samples",
    ]
    out.mkdir(parents=True, exist_ok=True)
    before = set(out.rglob("*results.json"))
    try:
        code = subprocess.run(call, stdout=sys.stderr, check=False).returncode
    except OSError as e:
        raise LmmsEvalFailed(
            f"lmms-eval could not be started ({' '.join(call)}): {e.strerror or e}."
        ) from e
    if code:
        raise LmmsEvalFailed(
            f"lmms-eval exited with code {code}. Its message is above; the command was: "
            f"{' '.join(call)}"
        )
    new = sorted(set(out.rglob("*results.json")) - before, key=lambda p: p.stat().st_mtime)
    if not new:
        raise LmmsEvalFailed(f"lmms-eval wrote no results into {out}. Its message is above.")
    return read_results(new[-1])


def read_results(path: Path) -> dict[str, dict[str, float]]:
    """The numbers of a results file: task -> metric -> value. Raises LmmsEvalFailed."""
    try:
        content: Any = parse_json(path.read_text(encoding="utf-8-sig"))
        tasks = content["results"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise LmmsEvalFailed(f"{path} is not a results file of lmms-eval: {e}.") from e
    out: dict[str, dict[str, float]] = {}
    for task, metrics in tasks:
        found = {}
        for name, value in metrics.items():
            number = (
                isinstance(value, (int, float))
                and not isinstance(value, bool)
                and math.isfinite(value)
            )
            if number and name != "samples":
                found[name.removesuffix(",none")] = float(value)
        out[str(task)] = found
    return out
