"""The value of `--devices`: which devices of this machine score at the same time."""

from __future__ import annotations

import re

from thresher.errors import ConfigError

_DEVICE = re.compile(r"cpu|mps|(cuda|xpu|npu|hpu)(:\d+)?")


def parse_devices(text: str) -> tuple[str, ...]:
    """Names of devices, in the given order; ("all",) for all GPUs.

    Raises ConfigError for a name that no device has, and for a GPU that is named twice.

    >>> parse_devices("0,1")
    ('cuda:0', 'cuda:1')
    >>> parse_devices("cpu, cpu")
    ('cpu', 'cpu')
    """
    names = [part.strip() for part in text.split(",")]
    if names == ["all"]:
        return ("all",)
    devices = tuple(f"cuda:{name}" if name.isdecimal() else name for name in names)
    for name, device in zip(names, devices, strict=True):
        if not _DEVICE.fullmatch(device):
            what = f"{name!r} is not a device" if name else "a name is empty"
            raise ConfigError(
                f": {what}. Expected GPU numbers such as 0,1,2,3, names such as cuda:0,cuda:1, or "
                "all.",
                option="devices",
                value=text,
            )
        if device != "cpu" and devices.count(device) > 1:
            raise ConfigError(f": {name} is named twice.", option="devices", value=text)
    return devices


def first_device(device: str, devices: str | None) -> str:
    """The device of the process that the user started.

    Arguments:
        device: of the request, such as "auto" or "cuda:1".
        devices: of the request, such as "0,1" or "all"; None: one process.

    >>> first_device("auto", None), first_device("auto", "2,3"), first_device("auto", "all")
    ('auto', 'cuda:2', 'cuda:0')
    """
    if devices is None:
        return device
    first = parse_devices(devices)[0]
    return "cuda:0" if first == "all" else first
