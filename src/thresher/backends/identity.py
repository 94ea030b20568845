"""The identity of a model before it is loaded: content hash of a folder, or pinned commit of a hub
repository; for a folder with LoRA adapters, the hash of the adapters and the identity of their
base.

Reads configurations and hashes weights, but loads none. File hashes are cached like those of
images, by path, size, times and inode, and spot-checked (`storage/hashing.py`).

Longer than 400 lines because every form that a model comes in has its identity here.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from thresher.backends.handle import ModelHandle
from thresher.backends.hf.checkpoint import check_index, shards
from thresher.errors import ModelError, NotAModel, opt, reason_of
from thresher.request.image_pixels import ImagePixels
from thresher.storage.hashing import hash_files
from thresher.types import ModelIdentity

# configuration, tokenizer, processor, template, remote code
_SMALL = (".json", ".jinja", ".txt", ".model", ".py")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
BUILT_IN = Path(__file__).parent.parent / "demo" / "model"
URL_OF_EMBEDDER = "URL#NAME of an embeddings server (http or https), "
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
# records of a model's training; not part of its identity
_TRAINING_RECORDS = ("training.json", "failures.jsonl")
ADAPTER = "adapter_config.json"
USE_AN_ADAPTER = (
    "A model that only its own code can run needs an adapter, a class of about fifty lines "
    "(docs/adapters.md), with which select, plan and evaluate run it: "
    f"{opt('adapter', 'MODULE:CLASS')}."
)
TEMPLATES = "additional_chat_templates"  # a folder of named chat templates
# keys of an adapter's configuration that change no number
_LOCATION_KEYS = ("base_model_name_or_path", "revision", "inference_mode")


@dataclass(frozen=True)
class Found:
    """A model's files.

    where: folder or hub id of the whole model.
    revision: pinned commit of a hub id.
    config: its config.json.
    weights: as in `ModelIdentity`.
    adapters: folders of LoRA adapters to merge into it, in this order.
    image_pixels: bounds on its images with which thresher trained the adapters.
    """

    where: str
    revision: str | None
    config: dict[str, Any]
    weights: str
    adapters: tuple[Path, ...] = ()
    image_pixels: ImagePixels | None = None


def identify(
    spec: str,
    device: str,
    dtype: str,
    batch_tokens: int | None,
    trust_remote_code: bool,
    cache: Path | None,
    typed: str | None = None,
    image_pixels: ImagePixels | None = None,
) -> ModelHandle:
    """The handle of a model that runs in this process.

    Arguments:
        spec: a folder, a hub id (`@revision` pins a commit), or `demo`.
        device: auto, or a torch device.
        dtype: auto, or the name of a torch dtype.
        batch_tokens: padded tokens per batch; None: by device.
        trust_remote_code: whether the model's own Python code may run.
        cache: folder in which the hashes of a model's files are cached; None: no cache.
        typed: how the user named the model, for messages; None: `opt("model", spec)`.
        image_pixels: bounds on the pixels of its images; None: as in its own files.
    """
    found = find(spec, trust_remote_code, cache, typed)
    return handle(spec, found, device, dtype, batch_tokens, trust_remote_code, typed, image_pixels)


def handle(
    spec: str,
    found: Found,
    device: str,
    dtype: str,
    batch_tokens: int | None,
    trust_remote_code: bool,
    typed: str | None = None,
    image_pixels: ImagePixels | None = None,
) -> ModelHandle:
    """The handle of a found model.

    Arguments:
        spec: how the user named the model.
        found: its files.
        device: auto, or a torch device.
        dtype: auto, or the name of a torch dtype.
        batch_tokens: padded tokens per batch; None: by device.
        trust_remote_code: whether the model's own Python code may run.
        typed: the name of the model in messages; None: `opt("model", spec)`.
        image_pixels: bounds on the pixels of its images; None: as in its own files.

    Raises ConfigError for a device that is not available, and for images that cannot be bounded
    like this.
    """
    from thresher.backends.hf.image_tokens import image_tokens, video_tokens
    from thresher.backends.hf.load import load, resolve_device, resolve_dtype
    from thresher.backends.hf.processor import load_processor, torchvision_works
    from thresher.backends.hf.size import model_size

    device = resolve_device(device)
    dtype = resolve_dtype(dtype, device)
    if image_pixels is not None:  # whether they can be is known before a row is scored
        load_processor(
            found.where,
            revision=found.revision,
            trust_remote_code=trust_remote_code,
            image_pixels=image_pixels,
        )
    bounds = image_pixels or found.image_pixels
    identity = ModelIdentity(
        found.weights,
        str(found.config["model_type"]),
        dtype,
        "torchvision" if torchvision_works() else "pil",
        str(bounds or ""),
    )
    return ModelHandle(
        spec,
        identity,
        lambda: load(
            found.where,
            revision=found.revision,
            device=device,
            dtype=dtype,
            batch_tokens=batch_tokens,
            trust_remote_code=trust_remote_code,
            adapters=found.adapters,
            typed=typed,
            image_pixels=bounds,
        ),
        partial(image_tokens, found.where, found.revision, trust_remote_code, bounds),
        partial(
            video_tokens,
            found.where,
            found.revision,
            trust_remote_code,
            str(found.config["model_type"]),
        ),
        context_of(found.config),
        partial(model_size, found.where, found.revision, trust_remote_code),
    )


def context_of(config: dict[str, Any]) -> int | None:
    """Most tokens of a row by a model's config.json; None if it does not say so."""
    text = config.get("text_config")
    for part in (text if isinstance(text, dict) else {}, config):
        if isinstance(found := part.get("max_position_embeddings"), int):
            return found
    return None


def find(
    spec: str,
    trust_remote_code: bool,
    cache: Path | None,
    typed: str | None = None,
    adapted: bool = False,
) -> Found:
    """Find a model's files.

    Arguments:
        spec: a folder, a hub id, or `demo`.
        trust_remote_code: whether the model's own Python code may run.
        cache: folder in which hashes are cached; None: no cache.
        typed: the name of the model in messages; None: `opt("model", spec)`.
        adapted: whether an adapter runs it, so that any architecture will do.

    Raises NotAModel, and ModelError if its files are damaged.
    """
    from thresher.backends.hf.threads import limit_idle_threads

    limit_idle_threads()  # before transformers is imported
    typed = typed or opt("model", spec)
    folder = check_name(spec, typed, adapted)
    if folder is not None and not adapted and _is_adapter(folder):
        return _find_adapter(typed, folder, trust_remote_code, cache)
    if folder is not None:
        config = _read_config(typed, folder)
    else:
        where, _, requested = spec.partition("@")
        revision, config = _pin(typed, where, requested or None)
    if not adapted:
        _check_is_multimodal(typed, config, trust_remote_code)
    if folder is not None:  # last: it reads all weights
        return Found(str(folder), None, config, "sha256:" + _hash_folder(folder, cache, typed))
    return Found(where, revision, config, f"hub:{where}@{revision}")


def check_name(
    spec: str, typed: str | None = None, adapted: bool = False, *, embedder: bool = False
) -> Path | None:
    """The folder of a model; None for a hub id, which is not looked up. Reads no weights.

    Arguments:
        spec: a folder, a hub id, or `demo`.
        typed: the name of the model in messages; None: `opt("model", spec)`.
        adapted: whether an adapter runs it.
        embedder: whether it gives embeddings only, so that a server of these will do, too.

    Raises NotAModel for what is none of these, and ModelError for a folder without weights.
    """
    typed = typed or opt("model", spec)
    if spec == "demo":
        return BUILT_IN
    folder = Path(spec).expanduser()
    if folder.exists():
        if adapted or not _is_adapter(folder):
            _read_config(typed, folder)
        return folder
    if not _HUB_ID.fullmatch(spec):
        raise NotAModel(
            f"{typed}: no such folder, and not a hub id (organisation/name). Give a model folder, "
            f"a hub id, {URL_OF_EMBEDDER if embedder else ''}or demo for the built-in model."
        )
    return None


def _is_adapter(folder: Path) -> bool:
    """Whether a folder holds LoRA adapters without their base."""
    return (folder / ADAPTER).is_file() and not (folder / "config.json").exists()


def _find_adapter(typed: str, folder: Path, trust_remote_code: bool, cache: Path | None) -> Found:
    """The base model that LoRA adapters name, with these adapters."""
    try:
        config = json.loads((folder / ADAPTER).read_text("utf-8"))
        base = config["base_model_name_or_path"]
        kind = config.get("peft_type", "LORA")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise ModelError(
            f"{typed}: {ADAPTER} cannot be read, or names no base_model_name_or_path: "
            f"{reason_of(e)}."
        ) from e
    weights = folder / "adapter_model.safetensors"
    if kind != "LORA" or not isinstance(base, str) or not base:
        raise ModelError(
            f"{typed} is a {kind} adapter of {base!r}; only LoRA adapters with a named base are "
            "read."
        )
    if not weights.is_file():
        raise ModelError(f"{typed} has an {ADAPTER} but no {weights.name} beside it.")
    if Path(base).resolve() == folder.resolve():
        raise ModelError(f"{typed}: {ADAPTER} names the folder itself as the base of its adapters.")
    if Path(base).is_absolute() and not Path(base).is_dir():
        raise ModelError(
            f"{typed} is a LoRA adapter of {base}, which does not exist. Restore it, or write its "
            f"new location into {folder / ADAPTER} (base_model_name_or_path)."
        )
    pinned = config.get("revision")
    name = f"{base}@{pinned}" if pinned and not Path(base).is_dir() else base
    try:
        base_model = find(name, trust_remote_code, cache, f"The base {name}")
    except ModelError as e:
        raise ModelError(
            f"{typed} is a LoRA adapter of {name}, which cannot be used. {e.message}"
        ) from e
    record = _training_record(folder)
    if record.get("base", base_model.weights) != base_model.weights:
        raise ModelError(
            f"{typed} was trained on another base than the one that is there now (its files have "
            "changed). Restore the old base, or train again."
        )
    bounds = record.get("image_pixels")
    whole = hashlib.sha256(base_model.weights.encode())
    whole.update(
        json.dumps(
            {k: v for k, v in config.items() if k not in _LOCATION_KEYS}, sort_keys=True
        ).encode()
    )
    whole.update(_digests([weights], cache, typed)[0])
    return Found(
        base_model.where,
        base_model.revision,
        base_model.config,
        "sha256:" + whole.hexdigest(),
        (*base_model.adapters, folder),
        ImagePixels.parse(bounds) if bounds else base_model.image_pixels,
    )


def _training_record(folder: Path) -> dict[str, str]:
    """Of adapters that thresher trained: the weights of their base (`base`), and the bounds on
    images if there were any (`image_pixels`). Empty for others."""
    try:
        record = json.loads((folder / _TRAINING_RECORDS[0]).read_text("utf-8"))
        found = {"base": record["base"]["weights"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # trained elsewhere
    if record.get("image_pixels"):
        found["image_pixels"] = str(record["image_pixels"])
    return found


def _read_config(typed: str, folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not folder.is_dir():
        raise NotAModel(
            f"{typed} is a file; a model folder (with config.json beside its weights) is needed."
        )
    try:
        config = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as e:
        raise NotAModel(
            f"{typed}: the folder has no config.json, so it is not a model folder."
        ) from e
    except (ValueError, OSError, RecursionError) as e:
        raise ModelError(f"{typed}: config.json cannot be read: {reason_of(e)}.") from e
    if not isinstance(config, dict) or "model_type" not in config:
        raise NotAModel(
            f"{typed}: config.json names no model_type, so transformers cannot tell what it is."
        )
    check_index(folder, typed)
    if not any(p.suffix in _WEIGHTS for p in folder.iterdir()):
        raise ModelError(f"{typed}: the folder has a config.json but no weights (*.safetensors).")
    return config


def _check_is_multimodal(typed: str, config: dict[str, Any], trust_remote_code: bool) -> None:
    if "auto_map" in config:
        if not trust_remote_code:
            raise NotAModel(
                f"{typed} has its own Python code. Read it, then give "
                f"{opt('trust_remote_code', True)} to run it. {USE_AN_ADAPTER}"
            )
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN,
    )

    if config["model_type"] not in KNOWN and config["model_type"] not in CONFIG_MAPPING_NAMES:
        raise NotAModel(
            f"{typed} is a {config['model_type']!r} model, which the installed transformers "
            f"({version('transformers')}) does not know. If the model is newer, update it: "
            "pip install -U transformers. Otherwise check model_type in its config.json. "
            f"{USE_AN_ADAPTER}"
        )
    if config["model_type"] not in KNOWN:
        raise NotAModel(
            f"{typed} is a {config['model_type']!r} model, which takes no images. A multimodal "
            "LLM is needed, such as Qwen/Qwen2.5-VL-7B-Instruct, llava-hf/llava-1.5-7b-hf or demo. "
            f"{USE_AN_ADAPTER}"
        )


def _pin(typed: str, repository: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """The current commit of a hub id (offline: the newest downloaded one) and its config.json."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    commit, offline = revision, False
    try:
        commit = HfApi().model_info(repository, revision=revision, timeout=10).sha
    except RepositoryNotFoundError as e:
        raise NotAModel(
            f"{typed}: the hub has no such model (or it is private: run `hf auth login`)."
        ) from e
    except Exception as e:
        if (
            isinstance(e, HfHubHTTPError)
            and e.response is not None
            and e.response.status_code in (401, 403)
        ):
            raise ModelError(
                f"{typed}: access denied. Accept its licence and run `hf auth login`."
            ) from e
        offline = True  # asking again for every file would only wait through retries
    try:
        file = Path(
            hf_hub_download(repository, "config.json", revision=commit, local_files_only=offline)
        )
    except (LocalEntryNotFoundError, OSError, ValueError) as e:
        raise NotAModel(
            f"{typed}: no such folder here, and the hub cannot be reached to download it. Give a "
            "folder, or demo for the built-in model."
        ) from e
    return file.parent.name, json.loads(file.read_text("utf-8"))


def _hash_folder(folder: Path, cache: Path | None, typed: str) -> str:
    """SHA-256 over names and contents of the files that transformers reads, in order of names."""
    whole = hashlib.sha256()
    files = _files(folder, typed)
    for p, digest in zip(files, _digests(files, cache, typed), strict=True):
        whole.update(
            f"{p.relative_to(folder).as_posix()}\0{p.stat().st_size}\0".encode(
                "utf-8", "surrogateescape"
            )
        )
        whole.update(digest)
    return whole.hexdigest()


def _files(folder: Path, typed: str) -> list[Path]:
    """The files of a model folder that transformers reads: configuration, tokenizer, weights, named
    chat templates, and what a weight index names."""
    top = [
        p
        for p in folder.iterdir()
        if p.is_file() and p.suffix in (*_SMALL, *_WEIGHTS) and p.name not in _TRAINING_RECORDS
    ]
    named = [
        p for index in folder.glob("*.index.json") for p in shards(index, typed) if p.is_file()
    ]
    return sorted({*top, *named, *(folder / TEMPLATES).glob("*.jinja")})


def _digests(files: list[Path], cache: Path | None, typed: str) -> list[bytes]:
    try:
        return hash_files(files, cache)
    except OSError as e:
        raise ModelError(f"{typed}: its files cannot be read: {reason_of(e)}.") from e
