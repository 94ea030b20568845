"""Opens a store by its folder or its address."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.errors import ConfigError, ThresherError, opt
from thresher.storage.addresses import is_remote, without_file_scheme
from thresher.storage.columns import Store

if TYPE_CHECKING:
    from thresher.storage.remote_folder import RemoteFolder


MIRRORS = "thresher-mirrors"
# an address that lacks a slash or the colon, as pathlib or os.path.normpath writes it, or a typo
_MISSPELLED = re.compile(r"(s3a?|gc?s|abfss?|az|memory|file)(:|//)", re.IGNORECASE)


def open_store(place: str | Path) -> Store:
    """The store in a folder, or at an address. Neither is contacted or created.

    Arguments:
        place: a folder, or an address such as `s3://bucket/prefix`.

    Raises ConfigError if it can be neither, MissingExtra.
    """
    text = without_file_scheme(str(place))
    if not text.strip():
        raise ConfigError(
            " is empty. Give a folder, or an address such as s3://BUCKET/PREFIX, or leave it out.",
            option="store",
            value=place,
        )
    if "://" in text and text != text.strip():
        raise ConfigError(
            " begins or ends with white space, which an address does not have.",
            option="store",
            value=place,
        )
    if not is_remote(text):
        if "://" in text or _MISSPELLED.match(text):
            raise ConfigError(
                " is neither a folder nor an address such as s3://BUCKET/PREFIX.",
                option="store",
                value=place,
            )
        return Store(text)
    from thresher.storage.mirrored import MirroredStore
    from thresher.storage.remote_folder import RemoteFolder

    remote = RemoteFolder(text)
    return MirroredStore(remote, mirror_of(remote))


def open_existing(place: str) -> Store | None:
    """The store at a recorded place; None if there is none, or none that can be read now.

    Arguments:
        place: as for `open_store`; "": none.
    """
    if not place:
        return None
    try:
        store = open_store(place)
        store.check(writes=False)
        return store if store.exists() else None
    except ThresherError:
        return None


def pool_cache(place: str | Path) -> Path | None:
    """The folder with index caches of pools of a store; None if the store cannot be opened here,
    for example without the extra `remote`.

    Arguments:
        place: as for `open_store`.
    """
    try:
        return open_store(place).root / "pools"
    except ThresherError:
        return None


def mirror_of(remote: RemoteFolder) -> Path:
    """The local folder with copies of what is in a remote store: in $THRESHER_MIRRORS, else in
    `thresher-mirrors` of the cache folder."""
    chosen = os.environ.get("THRESHER_MIRRORS")
    parent = Path(chosen) if chosen else cache_folder("THRESHER_MIRRORS=FOLDER") / MIRRORS
    # a bucket of the same name on another server is another store
    key = hashlib.sha256(f"{remote.address}\0{remote.endpoint}".encode()).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", remote.address.partition("://")[2])[:40].strip("-.")
    return parent.absolute() / f"{name}-{key}"


def cache_folder(variable: str) -> Path:
    """The user's folder for caches ($XDG_CACHE_HOME or ~/.cache). Raises ConfigError if there is
    none.

    Arguments:
        variable: of the environment, to be set instead, for the message.
    """
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache)
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # no HOME, and a user id that the system does not know
        raise ConfigError(
            "There is no home folder to store scores in: HOME is not set, and the system does not "
            f"know this user id. Say where: {opt('store')}, or {variable} in the environment."
        ) from None
