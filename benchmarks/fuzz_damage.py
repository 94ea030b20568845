"""Mutations for `fuzz_readers.py`: of bytes, JSON, YAML, tar headers, parquet columns; bombs.

Pure functions of bytes and a seeded generator. `damaged` chooses a mutation.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def packed(content: bytes) -> bytes:
    """As gzip."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return packer.compress(content) + packer.flush()


def bytes_of(content: bytes, rng: random.Random) -> bytes:
    """A few random byte-level mutations, independent of the format."""
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, size = rng.randrange(len(content) + 1), rng.choice((1, 2, 8, 64, 600))
        near_an_end = rng.random() < 0.3
        if near_an_end:
            at = rng.choice(
                (
                    rng.randrange(min(600, len(content) + 1)),
                    len(content) - rng.randrange(min(600, len(content) + 1)),
                )
            )
        what = rng.choice(
            ("flip", "cut", "drop", "insert", "repeat", "zeros", "ones", "digits", "move", "bit")
        )
        if what == "flip" and content:
            at = min(at, len(content) - 1)
            content = content[:at] + rng.randbytes(1) + content[at + 1 :]
        elif what == "bit" and content:
            at = min(at, len(content) - 1)
            content = (
                content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
            )
        elif what == "cut":
            content = content[:at] if rng.random() < 0.7 else content[at:]
        elif what == "drop":
            content = content[:at] + content[at + size :]
        elif what == "insert":
            content = content[:at] + rng.randbytes(size) + content[at:]
        elif what == "repeat":
            content = (
                content[:at]
                + content[max(at - size, 0) : at] * rng.choice((1, 2, 50))
                + content[at:]
            )
        elif what in ("zeros", "ones", "digits"):
            content = (
                content[:at]
                + {"zeros": b"\0", "ones": b"\xff", "digits": b"9"}[what] * size
                + content[at + size :]
            )
        elif what == "move":
            to = rng.randrange(len(content) + 1)
            content = content[:to] + content[at : at + size] + content[to:]
    return content


SNIPPETS = [
    b'{"a":' * 100_000,
    b"[" * 200_000,
    b"1" + b"0" * 5_000,
    b"-1e99999",
    b"1E400",
    b"NaN",
    b"Infinity",
    b'"\\ud800"',
    b'"\\u0000"',
    b"\xed\xa0\x80",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\r\n\r\n",
    b"\x00" * 4096,
    b'"' + b"x" * 3_000_000 + b'"',
    b'"' + b"<image>" * 20_000 + b'"',
    b"{}",
    b"[[]]",
    b"null",
    b'{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]}',
    b'{"datasets": ["mix.yaml"]}',
    b"&a [*a, *a]",
    b"!!python/object/apply:os.getcwd []",
]


def snippet(content: bytes, rng: random.Random) -> bytes:
    """Insert a text that is hard to parse, preferably at a token boundary of the file."""
    put = rng.choice(SNIPPETS)
    borders = [i for i, b in enumerate(content[:20_000]) if b in b'[{:,"\n']
    at = (
        rng.choice(borders) + rng.randrange(2)
        if borders and rng.random() < 0.8
        else rng.randrange(len(content) + 1)
    )
    end = at if rng.random() < 0.5 else min(at + rng.randrange(60), len(content))
    return content[:at] + put + content[end:]


def encoded_anew(content: bytes, rng: random.Random) -> bytes:
    """Convert the text to another encoding."""
    text = content.decode("utf-8", "replace")
    return text.encode(
        rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "latin-1", "cp1252")),
        "replace",
    )


def odd(rng: random.Random) -> Any:
    """An unexpected JSON value."""
    deep: Any = "x"
    for _ in range(rng.choice((5, 300))):
        deep = [deep] if rng.random() < 0.5 else {"conversations": deep}
    return rng.choice(
        (
            None,
            True,
            0,
            -1,
            7.5,
            10**400,
            1e308,
            -(2**63),
            2**64,
            "",
            " ",
            "\0",
            "\ud800",
            "<image>" * 500,
            "../../etc/passwd",
        )
        + (
            "/dev/zero",
            "/etc",
            "http://127.0.0.1/x.png",
            "data:image/png;base64,AAAA",
            "file:///etc/passwd",
            "x" * 5000,
            [],
        )
        + (
            {},
            [[]],
            [None],
            [{}],
            {"a": 1},
            {"bytes": None, "path": None},
            {"bytes": "x"},
            {"from": "gpt"},
            [1, "a", {}],
            deep,
        )
    )


def json_of(content: bytes, rng: random.Random) -> bytes:
    """Change values, keys and entries of a JSON or JSONL file; mutate bytes if it is not JSON."""
    lines = content.split(b"\n") if content[:1] == b"{" and b"\n" in content.strip() else [content]
    try:
        values = [json.loads(line) for line in lines if line.strip()]
    except ValueError:
        return snippet(content, rng)
    for _ in range(rng.choice((1, 1, 2, 5))):
        _change(values, rng)
    try:
        return b"\n".join(
            json.dumps(v, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
            for v in values
        )
    except (RecursionError, ValueError):
        return snippet(content, rng)


def _change(value: Any, rng: random.Random) -> None:
    """A random position in a nested list or object."""
    while True:
        places = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not places:
            return
        at = rng.choice(places)
        if isinstance(value[at], (dict, list)) and value[at] and rng.random() < 0.75:
            value = value[at]
            continue
        what = rng.choice(("odd", "odd", "odd", "gone", "other key", "twice"))
        if what == "odd":
            value[at] = odd(rng)
        elif what == "gone":
            del value[at]
        elif isinstance(value, dict):
            keys = (
                "id",
                "image",
                "images",
                "conversations",
                "messages",
                "texts",
                "from",
                "value",
                "role",
                "content",
                "videos",
            )
            value[rng.choice((*keys, "system", "tools", "extra_json", "", "\ud800"))] = (
                value[at] if what == "twice" else value.pop(at)
            )
        else:
            value.insert(at, value[at])
        return


def tar_of(content: bytes, rng: random.Random) -> bytes:
    """Rename tar members, or change their type, their stated size or their content."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as old,
        tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as new,
    ):
        members = old.getmembers()
        rng.shuffle(members) if rng.random() < 0.3 else None
        for info in members:
            file = old.extractfile(info)
            body = file.read() if file else b""
            if rng.random() < 0.2:
                what = rng.choice(("name", "type", "body", "json", "twice", "long name"))
                if what == "name":
                    info.name = rng.choice(
                        (
                            "../x.json",
                            "/abs.png",
                            "a/b/c.json",
                            "x",
                            ".json",
                            "x.tar.gz",
                            "\udcff.png",
                            "a.b.c.json",
                        )
                    )
                elif what == "type":
                    info.type = rng.choice(
                        (
                            tarfile.SYMTYPE,
                            tarfile.LNKTYPE,
                            tarfile.CHRTYPE,
                            tarfile.DIRTYPE,
                            tarfile.FIFOTYPE,
                            b"Z",
                        )
                    )
                    info.linkname, info.size, body = "/etc/passwd", 0, b""
                elif what == "body":
                    body = rng.choice(
                        (b"", b"\0" * 100, rng.randbytes(500), b"[]", b"null", b"[" * 50_000)
                    )
                elif what == "json":
                    body = json_of(body, rng)
                elif what == "twice":
                    info.size = len(body)
                    new.addfile(info, io.BytesIO(body))
                else:
                    info.name = "n" * 3000 + ".json"
            info.size = len(body)
            new.addfile(info, io.BytesIO(body))
    whole = bytearray(out.getvalue())
    if rng.random() < 0.5 and len(whole) > 1024:  # a field of a header, with a corrected checksum
        starts = [
            i for i in range(0, len(whole) - 512, 512) if whole[i + 257 : i + 262] == b"ustar"
        ]
        at = rng.choice(starts) if starts else 0
        field, width = rng.choice(
            ((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155))
        )
        put = rng.choice(
            (
                b"\xff" * width,
                b"7" * (width - 1) + b"\0",
                rng.randbytes(width),
                b"\x80" + b"\xff" * (width - 1),
            )
        )
        whole[at + field : at + field + width] = put[:width]
        whole[at + 148 : at + 156] = b" " * 8
        whole[at + 148 : at + 156] = b"%06o\0 " % sum(whole[at : at + 512])
    return bytes(whole)


def parquet_of(content: bytes, rng: random.Random) -> bytes:
    """Change the type of parquet columns, or rename, remove or empty them."""
    table = pq.read_table(pa.BufferReader(content))
    for _ in range(rng.choice((1, 2))):
        at = rng.randrange(table.num_columns)
        name, n = table.column_names[at], table.num_rows
        odd_column = rng.choice(
            (
                pa.nulls(n),
                pa.array(range(n)),
                pa.array([[{"from": None, "value": i}] for i in range(n)]),
                pa.array([{"bytes": b"\x89PNG", "path": None}] * n),
                pa.array([b"\xff\xfe"] * n),
                pa.array([b"\xff"] * n, pa.binary()).cast(pa.string(), safe=False)
                if rng.random() < 0.1
                else pa.array(["x"] * n),
                pa.array([["a", None]] * n),
                pa.array([1.5] * n).dictionary_encode(),
                pa.array([10**18] * n, pa.timestamp("ns")),
                pa.array([[("k", 1)]] * n, pa.map_(pa.string(), pa.int64())),
            )
        )
        what = rng.choice(("odd", "odd", "gone", "name", "rows"))
        if what == "odd":
            table = table.set_column(at, name, odd_column)
        elif what == "gone" and table.num_columns > 1:
            table = table.remove_column(at)
        elif what == "name":
            new = rng.choice(
                ("image", "images", "messages", "texts", "conversations", "", "x", name)
            )
            table = table.rename_columns(
                [new if i == at else c for i, c in enumerate(table.column_names)]
            )
        elif what == "rows":
            table = table.slice(0, rng.randrange(2))
    out = io.BytesIO()
    pq.write_table(table, out, compression=rng.choice(("none", "snappy", "zstd")))
    return out.getvalue()


def bomb(content: bytes, rng: random.Random) -> bytes:
    """A small file that declares a large size or expands to much data."""
    header = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big")
    chunk = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    png = header + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    aliases = b"datasets: &a0 [x]\n" + b"".join(
        b"k%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12)
    )
    row = (
        b'{"image": "data:image/png;base64,'
        + b"A" * 5_000_000
        + b'", "conversations": [{"from": "human", "value": "q"}]}\n'
    )
    return rng.choice(
        (
            packed(b"\0" * 200_000_000),
            packed(b'{"conversations": []}\n' * 200_000),
            png,
            aliases,
            row * 4,
            b"datasets: [" + b"{json_path: llava.json}, " * 500 + b"]",
            b"datasets: [{json_path: '*.json*'}, {json_path: mix.yaml}]",
            b'{"a": {"file_name": "../lf", "formatting": "sharegpt"}, "b": {"file_name": '
            b'"dataset_info.json"}}',
            b"[" + b"{}," * 300_000 + b"{}]",
            b"[" + b"1," * 1_000_000 + b"1]",
            b"\n" * 2_000_000,
        )
    )


WAYS: list[Callable[[bytes, random.Random], bytes]] = [
    bytes_of,
    bytes_of,
    snippet,
    encoded_anew,
    json_of,
    json_of,
    json_of,
    bomb,
]


def damaged(name: str, content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """(name of the mutation, mutated content)."""
    way = rng.choice(WAYS)
    if name.endswith(".tar") and rng.random() < 0.6:
        way = tar_of
    if name.endswith(".parquet") and rng.random() < 0.6:
        way = parquet_of
    if name.endswith((".parquet", ".tar", ".arrow", "picture")) and way in (
        json_of,
        encoded_anew,
        snippet,
    ):
        way = bytes_of
    if name.endswith(".gz") and rng.random() < 0.6:
        inner = zlib.decompress(content, 31)
        how, inner = damaged(name[: -len(".gz")], inner, rng)
        return f"{how}, packed", packed(inner)
    return way.__name__, way(content, rng)
