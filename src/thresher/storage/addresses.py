"""Addresses of files on other machines (`s3://bucket/folder`): any protocol of fsspec."""

from __future__ import annotations

import os
import re
from typing import Any

from thresher.errors import MissingExtra
from thresher.extras import install_command

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")


def is_remote(path: str) -> bool:
    """Whether `path` is an fsspec address (`s3://…`), not a local path."""
    return _REMOTE.match(path) is not None and not path.lower().startswith("file://")


def without_file_scheme(address: str) -> str:
    """The path of a `file://` address; any other address or path as it is."""
    return re.sub("^file://", "", address, flags=re.IGNORECASE)


def absolute(address: str) -> str:
    """An address as it is; a local path absolute, with symbolic links resolved."""
    return address if is_remote(address) else os.path.realpath(without_file_scheme(address))


def filesystem(address: str, **options: Any) -> tuple[Any, str]:
    """(fsspec file system, path in it) of a remote address.

    Arguments:
        address: such as `s3://bucket/folder`.
        options: of the file system, beside those of fsspec's own configuration.

    Raises MissingExtra if a package is missing, ValueError for an unknown protocol, and what the
    file system raises.
    """
    scheme, _, rest = address.partition("://")
    address = f"{scheme.lower()}://{rest}"
    try:
        import fsspec
    except ImportError:
        raise MissingExtra(
            f"{address} needs fsspec: {install_command('remote')} (gcsfs, adlfs … for other "
            "stores)."
        ) from None
    try:
        fs, inner = fsspec.core.url_to_fs(address, **options)
    except ImportError as error:
        if scheme.lower() in ("s3", "s3a"):
            what = f"s3fs, which is not installed: {install_command('remote')}"
        else:
            what = f"another package: {str(error).rstrip('.')}."
        raise MissingExtra(f"{address} needs {what}") from error
    return fs, inner
