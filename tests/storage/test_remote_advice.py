"""What is said to do about errors of remote file systems names the settings of their protocol."""

from __future__ import annotations

import pytest

from thresher.storage.remote_advice import advice

NO_ACCESS = PermissionError("denied")
AWAY = ConnectionError("refused")


@pytest.mark.parametrize(
    ("scheme", "credentials", "server", "top"),
    [
        ("s3", "AWS_PROFILE", "AWS_ENDPOINT_URL", "bucket"),
        ("S3A", "AWS_PROFILE", "AWS_ENDPOINT_URL", "bucket"),
        ("gs", "GOOGLE_APPLICATION_CREDENTIALS", "and the server, and run", "bucket"),
        ("abfss", "AZURE_STORAGE_ACCOUNT_NAME", "and the server, and run", "container"),
        ("hf", "HF_TOKEN", "HF_ENDPOINT", "repository"),
        ("sftp", "fsspec's file system for sftp://", "file system for sftp://", "folder"),
    ],
)
def test_settings_of_a_protocol(scheme: str, credentials: str, server: str, top: str) -> None:
    address = f"{scheme}://place/folder"
    assert credentials in advice(NO_ACCESS, address)
    assert server in advice(AWAY, address)
    assert advice(FileNotFoundError("none"), address) == f"Create the {top}, or give another one."
    assert advice(ValueError("wrong"), address) == "Check the address."
    if scheme.lower() not in ("s3", "s3a"):
        assert "AWS_" not in advice(NO_ACCESS, address) + advice(AWAY, address)
