"""What to do about an error of a remote file system: the settings of its protocol."""

from __future__ import annotations

from typing import NamedTuple

from thresher.storage.retries import INVALID, MISTAKES, NO_ACCESS

_AWS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
ENDPOINT_VARIABLES = {"s3": _AWS, "s3a": _AWS}
"""Scheme -> environment variables with the address of a server, the first that is set."""


class Settings(NamedTuple):
    """Where a protocol's file system reads its settings. top: what the first part of an address
    is. credentials: of the user. server: of a server other than the usual one; "": there is none.
    """

    top: str
    credentials: str
    server: str = ""


_S3 = Settings("bucket", "AWS_PROFILE, AWS_ACCESS_KEY_ID …", " or ".join(_AWS))
_GOOGLE = Settings(
    "bucket", "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`"
)
_AZURE = Settings("container", "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY …")
_HUB = Settings("repository", "HF_TOKEN, or `hf auth login`", "HF_ENDPOINT")
SETTINGS = {
    **dict.fromkeys(("s3", "s3a"), _S3),
    **dict.fromkeys(("gs", "gcs"), _GOOGLE),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), _AZURE),
    "hf": _HUB,
}


def advice(error: Exception, address: str) -> str:
    """What to do about an error.

    Arguments:
        error: that the file system raised.
        address: such as s3://bucket/prefix.
    """
    scheme = address.partition("://")[0].lower()
    known = SETTINGS.get(scheme)
    documented = f"see the documentation of fsspec's file system for {scheme}://"
    if isinstance(error, FileNotFoundError):
        return f"Create the {'folder' if known is None else known.top}, or give another one."
    if isinstance(error, PermissionError) or type(error).__name__ in NO_ACCESS:
        where = documented if known is None else known.credentials
        return f"Check your credentials ({where}) and what they allow."
    if isinstance(error, MISTAKES) or type(error).__name__ in INVALID:
        return "Check the address."
    where = documented if known is None else known.server
    return (
        f"Check the address, the network and the server{f' ({where})' if where else ''}, and run "
        "the same command again."
    )
