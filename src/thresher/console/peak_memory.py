"""Peak memory of a process.

The system reports it in KiB on Linux and the BSDs, in bytes on macOS, and not at all on Windows,
which has no `resource` module.
"""

from __future__ import annotations

import sys


def peak_bytes() -> int | None:
    """Peak memory of this process in bytes; None if the system does not report it."""
    try:
        import resource
    except ImportError:
        return None
    return in_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def in_bytes(maxrss: int, platform: str = sys.platform) -> int:
    """Convert `ru_maxrss` of `getrusage` or `wait4` to bytes.

    Arguments:
        maxrss: in the unit of the system.
        platform: as `sys.platform`.

    >>> in_bytes(2048, "linux"), in_bytes(2048, "darwin")
    (2097152, 2048)
    """
    return maxrss if platform == "darwin" else maxrss * 1024


def device_peak_bytes() -> int | None:
    """Most memory of a GPU that this process's tensors have taken, in bytes, on the GPU where it
    was most; None if the process uses no GPU."""
    torch = sys.modules.get("torch")  # not imported for this
    if torch is None or not torch.cuda.is_initialized():
        return None
    devices = range(torch.cuda.device_count())
    return max((int(torch.cuda.max_memory_allocated(i)) for i in devices), default=None)


def reset_device_peak() -> None:
    """Let `device_peak_bytes` begin again with what is allocated now."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)
