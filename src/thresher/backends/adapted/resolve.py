"""From `--adapter module:Class` to a model handle. Imports the class, and loads no weights."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.backends.handle import ModelHandle
from thresher.errors import ConfigError, MissingExtra, ModelError, named_reason
from thresher.types import ModelIdentity

if TYPE_CHECKING:
    from thresher.backends.adapted.adapter import Adapter
    from thresher.backends.adapted.backend import AdaptedBackend
    from thresher.backends.identity import Found

_SPEC = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def check_spec(spec: str) -> None:
    """Raises ConfigError (`adapter`) unless `spec` looks like module:Class."""
    if not _SPEC.fullmatch(spec):
        raise ConfigError(
            ": expected module:Class, such as my_adapter:MyAdapter, where my_adapter.py is in the "
            "working directory or can be imported.",
            option="adapter",
            value=spec,
        )


def load_class(spec: str) -> type[Adapter]:
    """The adapter's class; its module may be in the working directory. Raises ConfigError,
    MissingExtra."""
    from thresher.backends.adapted.adapter import Adapter

    check_spec(spec)
    module_name, name = spec.split(":")
    if module_name.endswith(".py"):
        raise ConfigError(
            f": a module is named without .py: {module_name.removesuffix('.py')}:{name}.",
            option="adapter",
            value=spec,
        )
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as e:
        top = module_name.split(".")[0]
        if e.name is not None and e.name.split(".")[0] != top:
            raise MissingExtra(
                f": importing it needs the package {e.name}, which is not installed.",
                option="adapter",
                value=spec,
            ) from e
        raise ConfigError(
            f": there is no module {module_name}, neither in the working directory nor installed.",
            option="adapter",
            value=spec,
        ) from e
    except (Exception, SystemExit) as e:  # whatever the user's module raises
        raise ConfigError(
            f": the module {module_name} cannot be imported: {named_reason(e)}.",
            option="adapter",
            value=spec,
        ) from e
    finally:
        if added:
            sys.path.remove(here)
    found: Any = getattr(module, name, None)
    if found is None:
        raise ConfigError(f": {module_name} has no class {name}.", option="adapter", value=spec)
    if not (inspect.isclass(found) and issubclass(found, Adapter)):
        raise ConfigError(
            f": {name} is no subclass of thresher.backends.adapted.Adapter.",
            option="adapter",
            value=spec,
        )
    if not isinstance(found.version, int):
        raise ConfigError(
            f": the version of {name} is {found.version!r}; a whole number is expected.",
            option="adapter",
            value=spec,
        )
    if missing := sorted(found.__abstractmethods__):
        raise ConfigError(f": {name} lacks {', '.join(missing)}.", option="adapter", value=spec)
    return found


def handle(spec: str, found: Found, adapter: str, device: str, dtype: str) -> ModelHandle:
    """The handle of a found model that an adapter runs.

    Arguments:
        spec: as the user named the model.
        found: its files.
        adapter: module:Class.
        device: a torch device, or auto.
        dtype: name of a torch dtype, or auto.

    Raises ConfigError and MissingExtra as `load_class` does, and ConfigError for a device that is
    not available.
    """
    from thresher.backends.hf.load import resolve_device, resolve_dtype

    cls = load_class(adapter)
    device = resolve_device(device)
    dtype = resolve_dtype(dtype, device)
    identity = ModelIdentity(
        found.weights,
        str(found.config["model_type"]),
        dtype,
        "adapter",
        adapter=f"{adapter}@{cls.version}",
    )
    return ModelHandle(spec, identity, lambda: _open(cls, found, adapter, device, dtype))


def _open(
    cls: type[Adapter], found: Found, adapter: str, device: str, dtype: str
) -> AdaptedBackend:
    import torch

    from thresher.backends.adapted.backend import AdaptedBackend
    from thresher.backends.hf.processor import quiet_transformers

    quiet_transformers()
    folder = Path(found.where)
    if found.revision is not None:
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(found.where, revision=found.revision))
    try:
        opened = cls(folder, device, getattr(torch, dtype))
    except (Exception, SystemExit) as e:  # whatever the user's class raises
        raise ModelError(
            f"The adapter {adapter} cannot open {found.where}: {named_reason(e)}."
        ) from e
    return AdaptedBackend(opened, adapter)
