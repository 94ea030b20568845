"""What a model is, before it is loaded: content hash of a folder, or pinned commit of a hub repository; of a folder with
LoRA adapters, the hash of the adapters together with what their base is.

Reads configuration and hashes weights; loads no weights. A hash of many gigabytes is remembered by the files' sizes and times.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from thresher.backends.handle import ModelHandle
from thresher.errors import ModelError, NotAModel
from thresher.types import ModelIdentity

_SMALL = (".json", ".jinja", ".txt", ".model", ".py")  # configuration, tokenizer, processor, template, remote code
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
BUILT_IN = Path(__file__).parent.parent / "demo" / "model"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_TOLD = ("training.json", "failures.jsonl")  # how a model came about: no part of what it is
ADAPTER = "adapter_config.json"
_PLACES = ("base_model_name_or_path", "revision", "inference_mode")  # of an adapter's configuration: change no number


@dataclass(frozen=True)
class Found:
    """`where`: folder or hub id of the whole model; `adapters`: folders to be put on it, in this order."""

    where: str
    revision: str | None
    config: dict[str, Any]
    weights: str  # as in ModelIdentity
    adapters: tuple[Path, ...] = ()


def identify(
    spec: str,
    device: str,
    dtype: str,
    batch_tokens: int | None,
    trust_remote_code: bool,
    cache: Path | None,
    typed: str | None = None,
) -> ModelHandle:
    """`typed`: as in `backends.resolve`."""
    found = find(spec, trust_remote_code, cache, typed)
    return handle(spec, found, device, dtype, batch_tokens, trust_remote_code, typed)


def handle(
    spec: str,
    found: Found,
    device: str,
    dtype: str,
    batch_tokens: int | None,
    trust_remote_code: bool,
    typed: str | None = None,
) -> ModelHandle:
    """A model that was found, as a run wants it. Raises ConfigError for a device that is not there."""
    from thresher.backends.hf.image_tokens import image_tokens
    from thresher.backends.hf.load import load, pick_device, pick_dtype
    from thresher.backends.hf.processor import torchvision_works

    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    pixels = "torchvision" if torchvision_works() else "pil"
    identity = ModelIdentity(found.weights, str(found.config["model_type"]), dtype, pixels)
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
        ),
        partial(image_tokens, found.where, found.revision, trust_remote_code),
    )


def find(spec: str, trust_remote_code: bool, cache: Path | None, typed: str | None = None) -> Found:
    """What `spec` (and `typed`: see `backends.resolve`) means here and now. Raises NotAModel, and ModelError where its files
    are broken.
    """
    from thresher.backends.hf.threads import quiet_threads

    quiet_threads()  # before transformers is imported
    typed = typed or f"--model {spec}"
    if spec == "demo":
        folder: Path | None = BUILT_IN
    else:
        folder = Path(spec).expanduser() if Path(spec).expanduser().exists() else None
    if folder is not None and (folder / ADAPTER).is_file() and not (folder / "config.json").exists():
        return _find_adapter(typed, folder, trust_remote_code, cache)
    if folder is not None:
        config = _read_config(typed, folder)
        found = Found(str(folder), None, config, "sha256:" + _hash_folder(folder, cache))
    elif _HUB_ID.fullmatch(spec):
        where, _, wanted = spec.partition("@")
        revision, config = _pin(typed, where, wanted or None)
        found = Found(where, revision, config, f"hub:{where}@{revision}")
    else:
        raise NotAModel(
            f"{typed}: no such folder, and not a hub id (organisation/name). "
            "Give a model folder, a hub id, or demo for the built-in model."
        )
    _check_is_multimodal(typed, found.config, trust_remote_code)
    return found


def _find_adapter(typed: str, folder: Path, trust_remote_code: bool, cache: Path | None) -> Found:
    """The base that the adapters name, with them on top."""
    try:
        config = json.loads((folder / ADAPTER).read_text("utf-8"))
        base = config["base_model_name_or_path"]
        kind = config.get("peft_type", "LORA")
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ModelError(f"{typed}: {ADAPTER} cannot be read, or names no base_model_name_or_path: {e}") from e
    weights = folder / "adapter_model.safetensors"
    if kind != "LORA" or not isinstance(base, str) or not base:
        raise ModelError(f"{typed} is a {kind} adapter of {base!r}; only LoRA adapters with a named base are read.")
    if not weights.is_file():
        raise ModelError(f"{typed} has an {ADAPTER} but no {weights.name} beside it.")
    if Path(base).resolve() == folder.resolve():
        raise ModelError(f"{typed}: {ADAPTER} names the folder itself as the base of its adapters.")
    if Path(base).is_absolute() and not Path(base).is_dir():
        raise ModelError(
            f"{typed} is a LoRA adapter of {base}, and that folder is gone. Put it back, or write its new place "
            f"into {folder / ADAPTER} (base_model_name_or_path)."
        )
    pinned = config.get("revision")
    name = f"{base}@{pinned}" if pinned and not Path(base).is_dir() else base
    try:
        under = find(name, trust_remote_code, cache, f"The base {name}")
    except ModelError as e:
        raise ModelError(f"{typed} is a LoRA adapter of {name}, which cannot be used. {e}") from e
    _check_base(typed, folder, under.weights)
    whole = hashlib.sha256(under.weights.encode())
    whole.update(json.dumps({k: v for k, v in config.items() if k not in _PLACES}, sort_keys=True).encode())
    with weights.open("rb") as f:
        whole.update(hashlib.file_digest(f, "sha256").digest())
    return Found(under.where, under.revision, under.config, "sha256:" + whole.hexdigest(), (*under.adapters, folder))


def _check_base(typed: str, folder: Path, weights: str) -> None:
    """Adapters that we trained know what their base was."""
    try:
        trained_on = json.loads((folder / _TOLD[0]).read_text("utf-8"))["base"]["weights"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # trained elsewhere
    if trained_on != weights:
        raise ModelError(
            f"{typed} was trained on another base than the one that stands there now (its files have changed). "
            "Put the old base back, or train again."
        )


def _read_config(typed: str, folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not folder.is_dir():
        raise NotAModel(f"{typed} is a file; a model folder (with config.json beside its weights) is needed.")
    try:
        config = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as e:
        raise NotAModel(f"{typed}: the folder has no config.json, so it is not a model folder.") from e
    except (ValueError, OSError) as e:
        raise ModelError(f"{typed}: config.json cannot be read: {e}") from e
    if not isinstance(config, dict) or "model_type" not in config:
        raise NotAModel(f"{typed}: config.json names no model_type, so transformers cannot tell what it is.")
    if not any(p.suffix in _WEIGHTS for p in folder.iterdir()):
        raise ModelError(f"{typed}: the folder has a config.json but no weights (*.safetensors).")
    return config


def _check_is_multimodal(typed: str, config: dict[str, Any], trust_remote_code: bool) -> None:
    if "auto_map" in config:
        if not trust_remote_code:
            raise NotAModel(f"{typed} brings its own Python code. Read it, then give --trust-remote-code to run it.")
        return
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

    if config["model_type"] not in KNOWN:
        raise NotAModel(
            f"{typed} is a {config['model_type']!r} model, which takes no images. A multimodal LLM is needed, "
            "such as Qwen/Qwen2.5-VL-7B-Instruct, llava-hf/llava-1.5-7b-hf or demo."
        )


def _pin(typed: str, repository: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """The commit that a hub id means now (or, offline, the newest one downloaded) and its config.json."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    commit, offline = revision, False
    try:
        commit = HfApi().model_info(repository, revision=revision, timeout=10).sha
    except RepositoryNotFoundError as e:
        raise NotAModel(f"{typed}: the hub has no such model (or it is private: run `hf auth login`).") from e
    except Exception as e:
        if isinstance(e, HfHubHTTPError) and e.response is not None and e.response.status_code in (401, 403):
            raise ModelError(f"{typed}: access denied. Accept its licence and run `hf auth login`.") from e
        offline = True  # asking again for every file would only wait through retries
    try:
        file = Path(hf_hub_download(repository, "config.json", revision=commit, local_files_only=offline))
    except (LocalEntryNotFoundError, OSError, ValueError) as e:
        raise NotAModel(
            f"{typed}: no such folder here, and the hub cannot be reached to download it. "
            "Give a folder, or demo for the built-in model."
        ) from e
    return file.parent.name, json.loads(file.read_text("utf-8"))


def _hash_folder(folder: Path, cache: Path | None) -> str:
    """sha256 over names and contents of the files that matter, in name order."""
    files = sorted(
        p for p in folder.iterdir() if p.is_file() and p.suffix in (*_SMALL, *_WEIGHTS) and p.name not in _TOLD
    )
    stamp = json.dumps([[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files])
    remembered = None
    if cache is not None:
        name = hashlib.sha256(f"{folder.resolve()}\0{stamp}".encode()).hexdigest()[:32]
        remembered = cache / f"{name}.sha256"
        if (known := _recall(remembered)) is not None:
            return known
    whole = hashlib.sha256()
    for p in files:
        whole.update(f"{p.name}\0{p.stat().st_size}\0".encode())
        with p.open("rb") as f:
            whole.update(hashlib.file_digest(f, "sha256").digest())
    if remembered is not None:
        _remember(remembered, whole.hexdigest())
    return whole.hexdigest()


def _recall(file: Path) -> str | None:
    """The hash in `file`, None where there is none that can be read."""
    try:
        known = file.read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    return known if re.fullmatch("[0-9a-f]{64}", known) else None


def _remember(file: Path, known: str) -> None:
    """Best effort: where nothing can be written, the model is hashed again next time."""
    temporary = file.with_name(f".tmp-{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(known, "ascii")
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
