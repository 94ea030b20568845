"""Load the weights of a model folder or hub id, and explain in one sentence why they cannot be
loaded.

transformers passes on whatever the checkpoint's reader raises: an ImportError where a quantised
model or an attention kernel needs a package, an OSError, a KeyError, an AssertionError. All of them
are faults of the files or of the environment.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thresher.errors import MissingExtra, ModelError, opt, reason_of

# Values of `attn_implementation`, and the package that provides each; a name with a slash is
# fetched by `kernels`.
_IN_TORCH = ("eager", "sdpa", "flex_attention")
_ATTENTION_PACKAGES = {
    "flash_attention_2": "flash-attn",
    "flash_attention_3": "flash-attn-3",
    "flash_attention_4": "flash-attn-4",
}
_ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
_QUANTISATION_PACKAGES = {
    "aqlm": "aqlm",
    "auto-round": "auto-round",
    "awq": "gptqmodel",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "eetq": "kernels",
    "gptq": "optimum and gptqmodel",
    "higgs": "flute-kernel",
    "hqq": "hqq",
    "quanto": "optimum-quanto",
    "quark": "amd-quark",
    "spqr": "spqr_quant",
    "torchao": "torchao",
    "vptq": "vptq",
}


def open_weights(
    where: str, *, revision: str | None, dtype: Any, trust_remote_code: bool, typed: str
) -> tuple[Any, dict[str, Any]]:
    """The model and transformers' loading info.

    Arguments:
        where: a folder or hub id.
        revision: the commit of a hub id.
        dtype: a torch dtype.
        trust_remote_code: whether the model's own Python code may run.
        typed: how the user named the model, for messages.

    Raises MissingExtra if a package is needed that is not installed, else ModelError.
    """
    import transformers

    if Path(where).is_dir():
        check_index(Path(where), typed)
    check_quantisation(_config(where, revision), typed)
    try:
        model, info = transformers.AutoModelForImageTextToText.from_pretrained(
            where,
            revision=revision,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    except ImportError as e:
        raise missing_package(typed, where, revision, e) from e
    except Exception as e:  # see the docstring of this module
        raise ModelError(
            f"{typed} cannot be loaded as a multimodal LLM: {reason_of(e)}. If its files are "
            "complete, is it a model in the transformers format? One that only its own code can "
            f"run needs an adapter (docs/adapters.md): {opt('adapter', 'MODULE:CLASS')}."
        ) from e
    return model, info


def check_quantisation(config: dict[str, Any], typed: str) -> None:
    """Raises ModelError for a quantisation that transformers does not know.

    transformers would only log it, and read the packed numbers as if they were weights.

    Arguments:
        config: content of config.json.
        typed: the name of the model in messages.
    """
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    method = _quantisation(config)
    known = sorted(AUTO_QUANTIZATION_CONFIG_MAPPING)
    # transformers' table has bitsandbytes only by width, such as bitsandbytes_4bit
    if method and method not in (*known, "bitsandbytes"):
        raise ModelError(
            f"{typed} is quantised by {method!r} (quant_method in its config.json), which the "
            f"installed transformers does not know. It knows {', '.join(known)}. Update "
            "transformers, or give the model that is not quantised."
        )


def _quantisation(config: dict[str, Any]) -> str:
    """The quantisation method in a config.json or its text config; "" if it is not quantised."""
    for part in (config, config.get("text_config")):
        settings = part.get("quantization_config") if isinstance(part, dict) else None
        if isinstance(settings, dict) and settings.get("quant_method"):
            return str(settings["quant_method"]).lower()
    return ""


def check_index(folder: Path, typed: str) -> None:
    """Raises ModelError for a weight index that names files outside `folder`, or cannot be read.

    Arguments:
        folder: of the model.
        typed: the name of the model in messages.
    """
    for index in sorted(folder.glob("*.index.json")):
        shards(index, typed)


def shards(index: Path, typed: str) -> list[Path]:
    """The files that a weight index names, without repetition, sorted by name. Raises ModelError.

    Arguments:
        index: such as model.safetensors.index.json.
        typed: how the user named the model, for messages.
    """
    try:
        named = json.loads(index.read_text("utf-8"))["weight_map"].values()
        names = sorted(set(named))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise ModelError(
            f"{typed}: {index.name} cannot be read ({reason_of(e)}). An object with a weight_map "
            "(name of a tensor: name of its file) is expected. Download or save the model again."
        ) from e
    for name in names:
        if (
            not isinstance(name, str)
            or "\0" in name
            or Path(name).is_absolute()
            or ".." in Path(name).parts
        ):
            raise ModelError(
                f"{typed}: {index.name} names the file {name!r}, which is outside the model's "
                "folder. Only files of the folder itself are read. Download or save the model "
                "again."
            )
    return [index.parent / name for name in names]


def missing_package(
    typed: str, where: str, revision: str | None, error: ImportError
) -> MissingExtra:
    """The error for a model that needs a package that is not installed, or is too old.

    Arguments:
        typed: how the user named the model, for messages.
        where, revision: its folder or hub id, and the commit of the latter.
        error: what transformers raised.
    """
    config = _config(where, revision)
    method = _quantisation(config)
    kernel = next((name for name in _kernels(config) if name not in _IN_TORCH), "")
    if kernel and (not method or "attention" in str(error).lower()):
        package = _ATTENTION_PACKAGES.get(kernel.split("|")[-1], "kernels")
        return MissingExtra(
            f"{typed}: its config.json asks for the attention kernel {kernel!r}, which needs the "
            f"package {package}: {reason_of(error)}. Install {package}, or remove that entry "
            "(attn_implementation) from config.json: the model then runs on torch's own attention."
        )
    if method:
        package = next((p for m, p in _QUANTISATION_PACKAGES.items() if method.startswith(m)), "")
        hint = f" ({package})" if package and package not in str(error) else ""
        return MissingExtra(
            f"{typed} is quantised ({method}), and what that needs is not installed{hint}: "
            f"{reason_of(error)}. Install it, or give the model that is not quantised."
        )
    return MissingExtra(
        f"{typed} needs a package that is not installed: {reason_of(error)}. Install it."
    )


def _kernels(config: dict[str, Any]) -> list[str]:
    """The attention kernels that a config.json and its sub-configs name."""
    found: list[str] = []
    for key, value in config.items():
        if key in _ATTENTION_KEYS:
            found += [str(v) for v in (value.values() if isinstance(value, dict) else [value]) if v]
        elif key.endswith("_config") and isinstance(value, dict):
            found += _kernels(value)
    return found


def _config(where: str, revision: str | None) -> dict[str, Any]:
    """config.json of a folder or a downloaded hub id; {} if it cannot be read."""
    from transformers.utils import cached_file

    try:
        file = cached_file(where, "config.json", revision=revision, local_files_only=True)
        config = json.loads(Path(str(file)).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
