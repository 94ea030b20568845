"""Reading and checking a `RunRequest`: from the command line, from a YAML file, or from both (flags
take precedence).

The file is either what a user wrote (`method: clipper`, `budget: 30%` …) or the `run.yaml` of an
earlier run, whose `config` section has the same keys; so `thresher select --config out/run.yaml`
repeats it from any folder: paths in a run.yaml start from its folder (`run_paths`), those in a
user's own file from where the command runs. Reads YAML files only.

Longer than 400 lines because the checks of all options are here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from thresher.backends.vllm.arguments import split
from thresher.errors import ConfigError, did_you_mean, opt
from thresher.mixture import check_mixture
from thresher.request import SERVER, RunRequest, fields_of
from thresher.request.devices import parse_devices
from thresher.request.image_pixels import ImagePixels
from thresher.request.model_spec import is_url
from thresher.request.ray_address import parse_address
from thresher.text import ParseError, parse_yaml

_NEXT_SETTING = re.compile(r"\s+(?=[a-z_][a-z0-9_.]*=)")
RUNS_CODE = ("trust_remote_code", "adapter")  # never taken from a file
_DEVICE = re.compile(r"auto|cpu|mps|(cuda|xpu|npu|hpu)(:\d+)?")


def read(path: str | Path, request: type[RunRequest] = RunRequest) -> dict[str, Any]:
    """The values in a config file, checked against the names and types of the fields of `request`.
    Raises ConfigError.

    Arguments:
        path: a YAML file.
        request: the dataclass whose fields are the known names.
    """
    from thresher.selection.paths import located

    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(": there is no such file.", option="config", value=path) from None
    except IsADirectoryError:
        raise ConfigError(
            f" is a folder. Name a YAML file, such as {Path(path) / 'run.yaml'}.",
            option="config",
            value=path,
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f" cannot be read: {e}.", option="config", value=path) from e
    try:
        given = parse_yaml(text)
    except ParseError as e:
        raise ConfigError(f" is not valid YAML: {e}.", option="config", value=path) from e
    if isinstance(given, dict) and isinstance(given.get("config"), dict):
        given = located(given, Path(path).parent)["config"]
    if not isinstance(given, dict):
        raise ConfigError(
            ": expected lines of `key: value` such as `method: clipper`.",
            option="config",
            value=path,
        )
    return {
        str(key): checked(str(key), value, request, where=f"{path}: ")
        for key, value in given.items()
        if value is not None
    }


def stored_request(section: Mapping[str, Any]) -> RunRequest:
    """The request behind the `config` section of a run.yaml; keys of other versions are ignored."""
    known = fields_of(RunRequest)
    values = {k: v for k, v in section.items() if k in known and v is not None}
    return RunRequest(**{k: checked(k, v, where="run.yaml: ") for k, v in values.items()})


def checked(
    key: str, value: Any, request: type[RunRequest] = RunRequest, *, where: str = ""
) -> Any:
    """One value from a file or a keyword of the API in its field's type.

    Arguments:
        key: the name of the field.
        value: as YAML or Python gave it.
        request: the class that has the field.
        where: the file that it is from, before a message; "" for a keyword of the API.

    Raises ConfigError.
    """
    known = fields_of(request)
    if key not in known:
        by_flag = {f.flag.removeprefix("--"): f.name for f in known.values()}
        raise ConfigError(
            f"{where}unknown key {key!r}.{did_you_mean(by_flag.get(key, key), list(known))} "
            f"Known: {', '.join(known)}."
        )
    kind = known[key].type
    expected = ""
    if kind is dict:
        if isinstance(value, Mapping) and not any(map(_holds_several, value.values())):
            return {str(k): _text(v) for k, v in value.items()}
        expected = (
            "lines of `key: value`, one for each setting"
            if where
            else 'a dict of names and values, such as {"keep": 0.3}'
        )
    elif kind is tuple:
        words = value if isinstance(value, (list, tuple)) else [value]
        if not any(map(_holds_several, words)):
            return tuple(_text(v) for v in words)
        expected = "a list of texts"
    elif kind is bool:
        if isinstance(value, bool):
            return value
        expected = "true or false" if where else "True or False"
    elif kind is int:
        if not isinstance(value, bool) and isinstance(value, Integral):
            return int(value)
        expected = "a whole number"
    elif kind is float:
        if not isinstance(value, bool) and isinstance(value, Real):
            return float(value)
        expected = "a number"
    elif _holds_several(value):
        expected = "one value"
    else:
        return _text(value)
    if where:
        raise ConfigError(f"{where}{key}: {value}: expected {expected}.")
    raise ConfigError(f"{key}={value!r}: expected {expected}, not {type(value).__name__}.")


def _holds_several(value: Any) -> bool:
    return isinstance(value, (Mapping, list, tuple))


def _text(value: Any) -> str:
    """A YAML scalar as the command line would have spelled it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)


def parse_settings(words: list[str]) -> dict[str, str]:
    """The values of --set as a mapping. Raises ConfigError.

    One text may contain several settings; a value may contain spaces, but not a space followed by
    `key=`.

    >>> parse_settings(["where=top", "bins=20 prefer=none", "weights=a:2, b:1"])
    {'where': 'top', 'bins': '20', 'prefer': 'none', 'weights': 'a:2, b:1'}
    """
    out: dict[str, str] = {}
    for word in (piece for text in words for piece in _NEXT_SETTING.split(text.strip())):
        key, equals, value = word.partition("=")
        if not equals or not key or not value:
            raise ConfigError(
                f": expected key=value, for example {opt('settings.where', 'middle')}.",
                option="settings",
                value=word,
            )
        if key in out and out[key] != value:
            raise ConfigError(f" is given twice: {out[key]} and {value}.", option=f"settings.{key}")
        out[key] = value
    return out


def combine(
    file: Mapping[str, Any],
    flags: Mapping[str, Any],
    request: type[RunRequest] = RunRequest,
) -> RunRequest:
    """The request of a file's values and the flags, which override them (None: not given). Settings
    are merged by key.

    Arguments:
        file: values of a config file.
        flags: values of the command line; None: not given.
        request: the dataclass to build.

    Raises ConfigError for values that are missing or out of range, and for a file that enables
    code (`RUNS_CODE`).
    """
    given = {k: v for k, v in flags.items() if v is not None}
    for name in RUNS_CODE:
        if file.get(name) and name not in given:
            written = "true" if file[name] is True else file[name]
            raise ConfigError(
                f"The config file says {name}: {written}. Code that a file names runs only if the "
                f"command line asks for it: if you trust it, add {opt(name, file[name])} to the "
                "command; otherwise remove the line from the file."
            )
    settings = {**file.get("settings", {}), **given.get("settings", {})}
    if "method" in given and given["method"] != file.get("method", given["method"]):
        # the file's settings are of another method
        settings = dict(given.get("settings", {}))
    backends = {given.get("backend", file.get("backend", "hf")), file.get("backend", "hf")}
    if len(backends) > 1 and "openai" in backends:
        # as are its model and limits of a server
        file = {k: v for k, v in file.items() if k not in (*SERVER, "model")}
    config = request(**{**file, **given, "settings": settings})
    check_request(config)
    return config


def check_request(config: RunRequest) -> None:
    """Raises ConfigError for values that are out of range or contradict each other."""
    check_mixture(config)  # before anything is opened
    check_device(config.device)
    if config.devices is not None:
        parse_devices(config.devices)
        if config.device != "auto":
            raise ConfigError(
                f" and {opt('devices')} exclude each other: give one of them.", option="device"
            )
        if config.backend != "hf":
            raise ConfigError(
                f" is for {opt('backend', 'hf')}; vLLM and servers distribute their work "
                "themselves.",
                option="devices",
            )
    check_ray(config)
    if config.batch_tokens is not None and config.batch_tokens < 1:
        raise ConfigError(
            ": expected a number of tokens, at least 1.",
            option="batch_tokens",
            value=config.batch_tokens,
        )
    if config.image_pixels is not None:
        ImagePixels.parse(config.image_pixels)
    if config.adapter is not None:
        from thresher.backends.adapted.resolve import check_spec

        check_spec(config.adapter)
        if config.video_frames is not None:
            raise ConfigError(
                f" and {opt('adapter')} exclude each other: an adapter gets no videos.",
                option="video_frames",
                value=config.video_frames,
            )
    check_video_frames(config.video_frames)
    check_server(config)
    check_vllm(config)
    check_embedder(config)
    if config.rounds is not None and config.rounds < 1:
        raise ConfigError(
            ": expected a whole number, at least 1.", option="rounds", value=config.rounds
        )
    if config.seed < 0:
        raise ConfigError(": expected 0 or more.", option="seed", value=config.seed)


def check_ray(config: RunRequest) -> None:
    """Raises ConfigError for options of Ray that are wrong or contradict others."""
    if config.engine != "ray":
        for name in ("ray_address", "ray_workers"):
            if (value := getattr(config, name)) is not None:
                raise ConfigError(f" needs {opt('engine', 'ray')}.", option=name, value=value)
        return
    if config.devices is not None:
        raise ConfigError(
            f" is for this machine's GPUs; {opt('engine', 'ray')} uses those of its cluster. Give "
            "one of them.",
            option="devices",
        )
    if config.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            ": Ray assigns the devices. Give auto, cuda (workers wait for a GPU) or cpu.",
            option="device",
            value=config.device,
        )
    if config.backend != "hf":
        raise ConfigError(
            f" is for {opt('backend', 'hf')}; vLLM and servers distribute their work themselves.",
            option="engine",
            value="ray",
        )
    if config.ray_workers is not None and config.ray_workers < 1:
        raise ConfigError(
            ": expected a number of workers, at least 1.",
            option="ray_workers",
            value=config.ray_workers,
        )
    if config.ray_address is not None:
        parse_address(config.ray_address)


# Models see at most some hundreds or thousands of frames; the frames of a video are in memory at
# one time.
MAX_VIDEO_FRAMES = 10_000


def check_video_frames(frames: int | None) -> None:
    """Raises ConfigError for a number of frames outside 1 to MAX_VIDEO_FRAMES."""
    if frames is not None and not 1 <= frames <= MAX_VIDEO_FRAMES:
        raise ConfigError(
            f": expected a number of frames from 1 to {MAX_VIDEO_FRAMES:,}.",
            option="video_frames",
            value=frames,
        )


def check_server(config: RunRequest) -> None:
    """Raises ConfigError if the options of a server contradict each other. No message shows what
    may contain a key."""
    named = [v for v in (config.model, config.embedder, *config.settings.values()) if is_url(v)]
    served = config.backend == "openai" or is_url(config.model)
    if served and config.video_frames is not None:
        raise ConfigError(
            " is for a model whose weights are here; a server gets texts and images only.",
            option="video_frames",
            value=config.video_frames,
        )
    if config.backend == "openai":
        if config.url is None:
            raise ConfigError(
                f" needs the server's URL: add it, such as "
                f"{opt('url', 'http://127.0.0.1:8000/v1')}.",
                option="backend",
                value="openai",
            )
        if "#" in config.url:
            raise ConfigError(
                f" takes the server only; name its model with {opt('model')}, not behind a #.",
                option="url",
            )
        if config.model is not None and config.model in named:
            raise ConfigError(
                f" takes the server's name of the model here; its URL belongs to {opt('url')}.",
                option="model",
            )
    elif config.url is not None:
        raise ConfigError(
            f" names a server, which only {opt('backend', 'openai')} asks. Add "
            f"{opt('backend', 'openai')}, or leave {opt('url')} out.",
            option="url",
        )
    elif not named:
        given = [fields_of(RunRequest)[k].flag for k in SERVER if getattr(config, k) is not None]
        if given:
            verb = "is" if len(given) == 1 else "are"
            raise ConfigError(
                f"{', '.join(given)} {verb} for a model behind a server, and none is named. Name "
                f"one, such as {opt('model', 'http://127.0.0.1:8000/v1#NAME')}, or leave it out."
            )


def check_embedder(config: RunRequest) -> None:
    """Raises ConfigError for options of the model that gives embeddings that contradict each
    other."""
    if config.embedder == "":
        raise ConfigError(
            ": expected a folder, a hub id or URL#NAME of a server.", option="embedder", value=""
        )
    if config.embed_text and not is_url(config.embedder):
        raise ConfigError(
            f" is for embeddings from a server, and {opt('embedder')} names none. Leave it out.",
            option="embed_text",
        )


def check_vllm(config: RunRequest) -> None:
    """Raises ConfigError for options that vLLM's engine does not take."""
    split(config.vllm)  # before anything is opened
    if config.backend != "vllm":
        if config.vllm:
            raise ConfigError(
                f" is an argument of vLLM's engine: add {opt('backend', 'vllm')}.",
                option="vllm",
                value=config.vllm[0],
            )
        return
    if config.device != "auto":
        raise ConfigError(
            f": {opt('backend', 'vllm')} runs on the device that the installed vLLM is for. Leave "
            "it out; CUDA_VISIBLE_DEVICES=1 chooses a GPU.",
            option="device",
            value=config.device,
        )
    for name in ("adapter", "image_pixels", "video_frames"):
        if (value := getattr(config, name)) is not None:
            raise ConfigError(
                f" and {opt('backend', 'vllm')} exclude each other. Leave one of them out.",
                option=name,
                value=value,
            )
    if config.rounds is not None and config.rounds > 1:
        raise ConfigError(
            f" trains the model, which {opt('backend', 'vllm')} cannot. Leave "
            f"{opt('backend')} out.",
            option="rounds",
            value=config.rounds,
        )


def check_device(device: str) -> None:
    """Raises ConfigError for a name that no device has; whether the device exists is checked when
    the model is resolved."""
    if not _DEVICE.fullmatch(device):
        known = did_you_mean(device, ["auto", "cpu", "cuda", "mps"])
        raise ConfigError(
            f": expected cpu, cuda, cuda:1 or mps.{known}", option="device", value=device
        )


def require(config: RunRequest, *names: str) -> None:
    """Raise ConfigError if a value was given neither on the command line nor in a file.

    Arguments:
        config: the request.
        names: of the fields that are required.
    """
    help_for = {
        "pool": "POOL (a file, folder or pattern)",
        "budget": f"{opt('budget')} (such as 30%, or a number of rows)",
        "out": f"{opt('out')} (a folder for the selection)",
    }
    missing = [help_for[name] for name in names if not getattr(config, name)]
    if missing:
        raise ConfigError(
            f"Missing: {', '.join(missing)}. Give it in the command or in a {opt('config')} file."
        )


def default_store() -> str | Path:
    """$THRESHER_STORE, else `thresher` in the user's cache folder ($XDG_CACHE_HOME or ~/.cache)."""
    import os

    from thresher.storage.opening import cache_folder

    if chosen := os.environ.get("THRESHER_STORE"):
        return chosen if "://" in chosen else Path(chosen)
    return cache_folder("THRESHER_STORE=FOLDER") / "thresher"
