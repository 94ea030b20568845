"""Benchmark of identity by content: opening a pool of many images for the first time, again, and
after some images changed.

Writes small files to a temporary folder and opens the pool in a new process each time. The files
are in the page cache; disks and networks add the time to read them.

    python benchmarks/identity.py [--images N] [--bytes B] [--folder DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

OPEN = """
import json, sys, time
from pathlib import Path
import thresher.pools
from thresher.console.peak_memory import peak_bytes
from thresher.pools import open_pool
hashed, parsed = [0], [0.0]
began = time.perf_counter()
def hashing(done, todo): hashed[0] = done
pool = open_pool(sys.argv[1], cache=Path(sys.argv[2]), trust_paths=sys.argv[3] == "trust", hashing=hashing)
print(json.dumps({"seconds": time.perf_counter() - began, "hashed": hashed[0], "bytes": peak_bytes(), "rows": len(pool)}))
"""  # noqa: E501
STAT = """
import os, sys, time
names = [e for e in open(sys.argv[2]).read().split()]
root = os.open(sys.argv[1], os.O_RDONLY)
began = time.perf_counter()
for name in names:
    os.stat(name, dir_fd=root)
print(time.perf_counter() - began)
"""


def make(folder: Path, images: int, size: int) -> Path:
    """Write `images` files of `size` random bytes, a thousand per folder, and a pool with one row
    each."""
    rows, names = [], []
    noise = os.urandom(size)
    for i in range(images):
        name = f"images/{i // 1000:04d}/{i:07d}.jpg"
        if i % 1000 == 0:
            (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(i.to_bytes(8, "big") + noise[8:])
        turns = [
            {"from": "human", "value": f"<image>\nWhat is picture {i}?"},
            {"from": "gpt", "value": "A picture that says little."},
        ]
        rows.append(json.dumps({"id": i, "image": name, "conversations": turns}))
        names.append(name)
    (folder / "pool.json").write_text("[" + ",\n".join(rows) + "]")
    (folder / "names").write_text("\n".join(names))
    return folder / "pool.json"


def opened(pool: Path, cache: Path, how: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(pool), str(cache), how],
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=600_000)
    parser.add_argument("--bytes", type=int, default=4096)
    parser.add_argument("--folder")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(prefix="thresher-identity-", dir=arguments.folder) as name:
        folder = Path(name)
        began = time.perf_counter()
        pool = make(folder, arguments.images, arguments.bytes)
        print(
            f"{arguments.images:,} files of {arguments.bytes:,} bytes written in "
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )
        cache = folder / "cache"
        bare = [sys.executable, "-c", STAT, str(folder), str(folder / "names")]
        stat = float(subprocess.run(bare, check=True, capture_output=True, text=True).stdout)
        print(f"one stat of each: {stat:.1f} s", flush=True)
        for label, how in (
            ("trusted paths, first", "trust"),
            ("trusted paths, second", "trust"),
            ("content, first", "content"),
            ("content, second", "content"),
            ("content, 1% overwritten", "content"),
            ("content, again", "content"),
            ("content, another pool of the same images", "content"),
        ):
            if "overwritten" in label:
                for i in range(0, arguments.images, 100):
                    file = folder / f"images/{i // 1000:04d}/{i:07d}.jpg"
                    about = file.stat()
                    file.write_bytes(os.urandom(arguments.bytes))
                    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
            if "another" in label:
                text = pool.read_text().replace("says little", "says a little")
                pool = folder / "other.json"
                pool.write_text(text)
            results[label] = opened(pool, cache, how)
            print(label, results[label], flush=True)
        kept = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file())
    table = Table(
        title=f"Opening a pool of {arguments.images:,} images ({arguments.bytes:,} bytes each); "
        f"stat alone {stat:.1f} s"
    )
    for column in ("", "seconds", "files hashed", "files/s", "peak MB"):
        table.add_column(column, justify="right" if column else "left")
    for label, r in results.items():
        rate = f"{r['hashed'] / r['seconds']:,.0f}" if r["hashed"] else ""
        table.add_row(
            label, f"{r['seconds']:.1f}", f"{r['hashed']:,}", rate, f"{r['bytes'] / 1e6:,.0f}"
        )
    Console().print(table)
    print(f"kept on disk: {kept / 1e6:,.0f} MB")
    if arguments.json:
        arguments.json.write_text(json.dumps({"stat": stat, "kept": kept, **results}, indent=1))


if __name__ == "__main__":
    main()
