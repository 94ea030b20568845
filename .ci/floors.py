"""floors.py EXTRA …: prints a constraint `name==version` for the lower bound of every requirement
of the core and of these extras in pyproject.toml (the highest if a package has several)."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
extras = project["optional-dependencies"]
stated = [*project["dependencies"], *(text for extra in sys.argv[1:] for text in extras[extra])]
floors: dict[str, str] = {}
for text in stated:
    if found := re.match(r"([A-Za-z0-9_.-]+)\s*>=\s*([0-9.]+)", text):
        name, version = found.groups()
        floors[name] = max(
            version, floors.get(name, version), key=lambda v: [int(n) for n in v.split(".")]
        )
for name, version in sorted(floors.items()):
    print(f"{name}=={version}")
