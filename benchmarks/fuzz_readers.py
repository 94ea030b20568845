"""Fuzz test of the readers: a damaged file gives a pool or one clear message, never a traceback, a
hang or excessive memory.

Real rows (a given pool, or the built-in one) are written in every supported format. Each case
mutates one of these files (bytes, JSON values, YAML, tar headers, parquet columns, images, whole
files of another type), opens it, reads all rows and images, and writes the result as ms-swift
JSONL. A case depends only on the seed and its number, so a finding can be reproduced with
`--only NUMBER`. Cases run in separate processes with limits on memory and time.

    python benchmarks/fuzz_readers.py [--quick] [--json FILE] [--seconds 600] [--seed 0] [--pool
    POOL --images DIR] [--only NUMBER]

Exit code 1 if anything was found. Writes to the temporary folder only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from rich.console import Console
from rich.table import Table

from fuzz_damage import damaged, packed
from thresher.console.peak_memory import peak_bytes
from thresher.errors import ImageError, ThresherError
from thresher.exporters import export
from thresher.exporters.options import Options
from thresher.pools import Pool, open_pool
from thresher.types import digests_to_bytes

ROWS = 12
CASES = 40  # in one process
SECONDS = 20  # of CPU for one case; more is a hang
MOST = 1 << 30  # bytes of memory that a process may reach
LIMIT = 3 << 30  # bytes of address space: beyond it allocations fail
EMBED = Options(embed=True)
FINE = ("opened", "refused", "refused on writing")

# ---------------------------------------------------------------------------------- files to damage


def originals(folder: Path, pool: Pool) -> list[str]:
    """Write one file or folder per format, with the pool's images; returns their names."""
    rows = range(min(ROWS, len(pool)))
    written: dict[str, tuple[str, Options | None]] = {
        "llava.json": ("llava-json", None),
        "llava.jsonl": ("llava-jsonl", None),
        "sharegpt.json": ("sharegpt", None),
        "sharegpt.jsonl": ("sharegpt-jsonl", None),
        "swift.jsonl": ("swift", None),
        "messages.jsonl": ("messages", None),
        "openai.jsonl": ("messages", EMBED),
        "paths.parquet": ("parquet", None),
        "bytes.parquet": ("parquet", EMBED),
        "plain.tar": ("webdataset", None),
        "lf/mine.json": ("llamafactory", None),
    }
    for name, (format, options) in written.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        export(pool, rows, folder / name, format, options)
    (folder / "packed.tar.gz").write_bytes(packed((folder / "plain.tar").read_bytes()))
    (folder / "packed.jsonl.gz").write_bytes(packed((folder / "llava.jsonl").read_bytes()))
    alpaca = []
    for sample in pool.samples(rows):
        texts = [t.text for t in sample.turns]
        alpaca.append(
            {
                "instruction": texts[0],
                "input": "",
                "output": texts[-1],
                "images": [i.path for i in sample.images],
            }
        )
    (folder / "alpaca.json").write_text(json.dumps(alpaca))
    table = pq.read_table(folder / "bytes.parquet")
    with (
        pa.OSFile(str(folder / "stream.arrow"), "wb") as out,
        pa.ipc.new_stream(out, table.schema) as writer,
    ):
        writer.write_table(table, max_chunksize=5)
    mixture = {
        "datasets": [
            {"json_path": "llava.json", "sampling_strategy": "first:50%"},
            {"path": "swift.jsonl"},
        ]
    }
    (folder / "mix.yaml").write_text(yaml.safe_dump(mixture))
    shown = [i.path for s in pool.samples(rows) for i in s.images if not i.data]
    for path in dict.fromkeys(shown):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(pool.images_folder) / path, folder / path)
    return [
        *written,
        "packed.tar.gz",
        "packed.jsonl.gz",
        "alpaca.json",
        "stream.arrow",
        "mix.yaml",
        "lf/dataset_info.json",
        "a picture",
    ]


# ----------------------------------------------------------------------------------------- one case


class Slow(BaseException):
    """The case timed out. Not an `Exception`, so that no handler catches it."""


def _ring(number: int, frame: FrameType | None) -> None:
    raise Slow


def case(
    number: int, seed: int, folder: Path, names: list[str], work: Path
) -> tuple[str, str, str]:
    """Run one case; returns (file, mutation, outcome: opened, refused or the problem)."""
    rng = random.Random(f"{seed} {number}")
    name = names[number % len(names)]
    target = name
    if name == "a picture":
        pictures = sorted(
            str(p.relative_to(folder))
            for p in folder.rglob("*")
            if p.suffix in (".png", ".jpg", ".gif")
        )
        target = rng.choice(pictures)
    how, content = damaged(name, (folder / target).read_bytes(), rng)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder, work, copy_function=os.link)
    (work / target).unlink()
    (work / target).write_bytes(content)
    opened = work / ("llava.json" if name == "a picture" else target)
    format = (
        rng.choice(("llava", "sharegpt", "swift", "messages", "parquet", "webdataset", "alpaca"))
        if rng.random() < 0.1
        else None
    )
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        return name, how, use(opened, work, format)
    except Slow:
        return name, how, "hang\n" + traceback.format_exc()
    except Exception:  # noqa: BLE001 - that is what is looked for
        return name, how, "traceback\n" + traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def use(path: Path, work: Path, format: str | None) -> str:
    """Open the file twice (the second time from the cache), read all rows, export them."""
    try:
        pool = open_pool(path, cache=work / "cache", format=format)
        again = open_pool(path, cache=work / "cache", format=format)
    except ThresherError as error:
        return (
            "refused"
            if 0 < len(str(error)) < 5000
            else (f"a message of {len(str(error)):,} characters")
        )
    assert digests_to_bytes(again.digest) == digests_to_bytes(pool.digest), (
        "the cache gives other rows"
    )
    rows = range(len(pool)) if len(pool) < 2000 else range(0, len(pool), len(pool) // 1000)
    try:
        samples = pool.samples(rows)
        list(pool.raw(rows))
    except ThresherError:
        return "refused"
    digests = digests_to_bytes(pool.digest)
    assert [s.digest for s in samples] == [digests[r] for r in rows], (
        "a row that is read again has another digest"
    )
    for image in [i for s in samples for i in s.images][:200]:
        try:
            pool.load_image(image)
        except ImageError:
            continue
    good = [r for r in rows if not pool.unreadable[r]]
    if good:
        try:
            export(pool, good, work / "again.jsonl", "swift")
        except ThresherError:
            return "refused on writing"
    return "opened"


# ---------------------------------------------------------------------------------------- processes


def child(first: int, last: int, seed: int, folder: Path, names: list[str], work: Path) -> None:
    """Run cases first … last - 1 and print one line of JSON per case."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    signal.signal(signal.SIGPROF, _ring)
    before = _memory()
    for number in range(first, last):
        print(json.dumps({"begins": number}), flush=True)
        began = time.process_time()
        name, how, outcome = case(number, seed, folder, names, work)
        now = _memory()
        record = {
            "number": number,
            "name": name,
            "how": how,
            "outcome": outcome,
            "seconds": time.process_time() - began,
        }
        print(json.dumps(record | {"peak": now, "grew": now - before}), flush=True)
        before = now


def _memory() -> int:
    """Peak memory of the process so far, in bytes."""
    return peak_bytes() or 0


def run(first: int, last: int, arguments: list[str]) -> Iterator[dict[str, Any]]:
    """Results of a process; a crash or hang is the result of its case."""
    command = [sys.executable, __file__, "--child", str(first), str(last), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # on the clock, where the processor may be shared: a process that sleeps
    watch = 10 * (last - first) * SECONDS
    try:
        out, errors = process.communicate(timeout=watch)
    except subprocess.TimeoutExpired:
        process.kill()
        out, errors = process.communicate()
        errors = "killed: it did not answer to the alarm\n" + errors
    open_case = None
    for line in out.splitlines():
        record = json.loads(line)
        if "begins" in record:
            open_case = record["begins"]
        else:
            open_case = None
            yield record
    if process.returncode != 0:
        number = first if open_case is None else open_case
        yield {
            "number": number,
            "name": "",
            "how": "",
            "outcome": f"died {process.returncode}\n{errors[-3000:]}",
            "seconds": 0,
            "peak": 0,
        }
        if number + 1 < last:
            yield from run(number + 1, last, arguments)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="30 seconds")
    parser.add_argument("--seconds", type=float, default=600, help="of CPU (default: 600)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pool", help="real rows to damage (default: the built-in world's)")
    parser.add_argument("--images")
    parser.add_argument("--only", type=int, help="one case, in this process")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child:
        names = json.loads((a.folder / "names.json").read_text())
        first, last = a.child
        child(first, last, a.seed, a.folder / "originals", names, a.folder / "work")
        return 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        folder = Path(temporary)
        if a.pool is None:
            from thresher.demo.pool import make_pool

            a.pool = make_pool(folder / "world", rows=60, seed=a.seed)
        pool = open_pool(a.pool, a.images)
        (folder / "originals").mkdir()
        names = originals(folder / "originals", pool)
        (folder / "names.json").write_text(json.dumps(names))
        if a.only is not None:
            signal.signal(signal.SIGPROF, _ring)
            name, how, outcome = case(a.only, a.seed, folder / "originals", names, folder / "work")
            print(f"case {a.only}: {name}, {how}: {outcome}")
            return int(outcome.partition("\n")[0] not in FINE)
        return report(a, folder)


def _cpu() -> float:
    """CPU time of all cases so far, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(a: argparse.Namespace, folder: Path) -> int:
    """Run cases until the CPU time is used up, and print the table."""
    seconds = 30 if a.quick else a.seconds
    arguments = ["--seed", str(a.seed), "--folder", str(folder)]
    outcomes: dict[str, Counter[str]] = {}
    ways: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    slowest, peak, first = 0.0, 0, 0
    try:
        while _cpu() < seconds:
            for record in run(first, first + CASES, arguments):
                outcome = record["outcome"].partition("\n")[0]
                outcomes.setdefault(record["name"], Counter())[outcome.split(" ")[0]] += 1
                ways[record["how"]] += 1
                slowest, peak = max(slowest, record["seconds"]), max(peak, record["peak"])
                if outcome not in FINE or record["peak"] > MOST:
                    found.append(record)
                    print(
                        json.dumps(record)[:3000].replace("\\n", "\n"), file=sys.stderr, flush=True
                    )
            first += CASES
    except KeyboardInterrupt:
        print("stopped; what was found so far:", file=sys.stderr)
    table = Table("file", "opened", "refused", "wrong")
    for name, counts in outcomes.items():
        wrong = counts.total() - counts["opened"] - counts["refused"]
        table.add_row(name, f"{counts['opened']:,}", f"{counts['refused']:,}", f"{wrong:,}")
    console = Console()
    console.print(table)
    console.print(
        f"{first:,} cases, {_cpu():,.0f} s of CPU, slowest case {slowest:.1f} s, most memory "
        f"{peak / 1e6:,.0f} MB, {len(found)} findings. Ways: {dict(ways.most_common())}"
    )
    if a.json:
        rows = [{"name": "cases", "ours": first, "peer": None, "ratio": None, "unit": "cases"}]
        rows.append(
            {"name": "findings", "ours": len(found), "peer": None, "ratio": None, "unit": "cases"}
        )
        a.json.write_text(json.dumps(rows))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
