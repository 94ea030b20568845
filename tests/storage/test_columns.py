"""The store keeps its values through races, kills, full disks and damage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.text_pools import Loss, Pair, Partner
from tests.warm_process import WarmServer
from thresher.backends.fake import IDENTITY
from thresher.errors import ConfigError, StoreError
from thresher.fingerprint import fingerprint
from thresher.storage.atomic import STALE_AFTER
from thresher.storage.columns import MERGE_ABOVE, DamagedPart, Store
from thresher.storage.part_rows import sorted_order
from thresher.types import DIGEST, Field, digests_to_array

FIELDS = (
    Field("nll", "float32", "nats"),
    Field("tokens", "int32", "count"),
    Field("match", "bool", "argmax"),
)
FP = "f" * 32


def keys(n: int, seed: int = 0) -> np.ndarray:
    return np.frombuffer(np.random.default_rng(seed).bytes(32 * n), DIGEST)


def values(n: int, start: int = 0) -> dict[str, np.ndarray]:
    at = np.arange(start, start + n)
    return {"nll": (at / 7).astype(np.float32), "tokens": at.astype(np.int32), "match": at % 2 == 0}


def test_stored_values_are_loaded(tmp_path: Path) -> None:
    k = keys(100)
    Store(tmp_path).append(FP, FIELDS, k[:60], values(60), [""] * 60)
    Store(tmp_path).append(
        FP,
        FIELDS,
        k[60:90],
        values(30, 60),
        ["broken image" if i % 3 == 0 else "" for i in range(30)],
    )
    asked = np.r_[k[::-1], k[5:7]]  # another order, and repeats
    got, errors, found = Store(tmp_path).load(FP, FIELDS, asked)
    row = np.r_[np.arange(100)[::-1], [5, 6]]
    assert (found == (row < 90)).all()
    failed = (row >= 60) & (row < 90) & ((row - 60) % 3 == 0)
    assert ((errors == "broken image") == failed).all()
    assert ((errors == "") == ~failed).all()
    fine = found & ~failed
    assert fine.sum() == 82
    expected = values(100)
    for name in expected:
        assert got[name].dtype == expected[name].dtype
        assert (got[name][fine] == expected[name][row[fine]]).all()
    assert np.isnan(got["nll"][~fine]).all() and (got["tokens"][~fine] == 0).all()


def test_empty_store_has_nothing_and_creates_nothing(tmp_path: Path) -> None:
    got, errors, found = Store(tmp_path / "none").load(FP, FIELDS, keys(3))
    assert (
        not found.any() and errors.tolist() == [""] * 3 and set(got) == {"nll", "tokens", "match"}
    )
    assert not (tmp_path / "none").exists()


def test_keys_that_end_in_nul_are_distinct(tmp_path: Path) -> None:
    raw = [b"a" * 31 + b"\0", b"a" * 30 + b"\0\0", b"a" * 31 + b"b", b"\0" * 32, b"\0" * 31 + b"a"]
    k = digests_to_array(raw)
    Store(tmp_path).append(FP, FIELDS, k, values(5), [""] * 5)
    got, _, found = Store(tmp_path).load(FP, FIELDS, k[::-1])
    assert found.all() and got["tokens"].tolist() == [4, 3, 2, 1, 0]
    part = pq.read_table(Store(tmp_path).parts(FP)[0])
    assert part["key"].to_pylist() == raw


def test_bytes_text_and_nan_survive(tmp_path: Path) -> None:
    fields = (
        Field("who", "S32", "digest"),
        Field("said", "str", "text"),
        Field("nll", "float32", "NaN = none"),
    )
    who = digests_to_array([b"x" * 31 + b"\0", b"\0" * 32, b"y" * 32])
    text = np.array(["ä\n", "", "z"], dtype=object)
    nll = np.array([np.nan, 1.5, 2.5], np.float32)
    Store(tmp_path).append(
        FP, fields, keys(3), {"who": who, "said": text, "nll": nll}, ["", "", "no"]
    )
    got, errors, found = Store(tmp_path).load(FP, fields, keys(3))
    assert found.all() and errors.tolist() == ["", "", "no"]
    assert (got["who"][:2] == who[:2]).all() and got["who"][2] == b""
    assert got["said"].tolist() == ["ä\n", "", ""]
    assert np.isnan(got["nll"][0]) and got["nll"][1] == 1.5


def test_equal_texts_of_several_parts_are_one_object(tmp_path: Path) -> None:
    """A million rows have the words of a few thousand skills."""
    store, fields = Store(tmp_path), (Field("words", "str", "words"),)
    for half in (slice(0, 20), slice(20, 40)):
        words = np.array(["red car", ""] * 10, object)
        store.append(FP, fields, keys(40)[half], {"words": words}, [""] * 20)
    got, _, found = store.load(FP, fields, keys(40))
    assert found.all() and got["words"].tolist() == ["red car", ""] * 20
    assert len({id(text) for text in got["words"].tolist()}) == 2


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("in_order", [True, False])
def test_a_whole_pool_is_loaded_as_its_rows_one_by_one(
    tmp_path: Path, parts: int, in_order: bool
) -> None:
    store, k, given = Store(tmp_path), np.sort(keys(60)) if in_order else keys(60), values(60)
    errors = np.array(["no" if i % 7 == 0 else "" for i in range(60)], object)
    for rows in np.array_split(np.arange(60), parts):
        of_rows = {name: array[rows] for name, array in given.items()}
        store.append(FP, FIELDS, k[rows], of_rows, errors[rows].tolist())
    for order in (np.argsort(k), np.arange(60), np.argsort(k)[::-1]):
        got, failed, found = store.load(FP, FIELDS, k[order])
        assert found.all() and failed.tolist() == errors[order].tolist()
        for i, row in enumerate(order.tolist()):
            one, _, _ = store.load(FP, FIELDS, k[row : row + 1])
            assert all(
                got[name][i] == one[name][0] or (np.isnan(got[name][i]) and np.isnan(one[name][0]))
                for name in given
            )


def test_every_kind_of_field_survives_failures_and_merges(tmp_path: Path) -> None:
    fields = (
        Field("text", "str", ""),
        Field("raw", "S3", ""),
        Field("yes", "bool", ""),
        Field("big", "int64", ""),
        Field("x", "float32", ""),
    )
    n = 11 * (MERGE_ABOVE + 1)  # no multiple of 8: truth values and nulls are stored as bits
    k, store = keys(n), Store(tmp_path)
    row = np.arange(n)
    given = {
        "text": np.array([f"text {i % 7}" if i % 3 else "" for i in range(n)], object),
        "raw": np.array([b"%03d" % (i % 1000) for i in range(n)], "S3"),
        "yes": row % 5 == 0,
        "big": row.astype(np.int64) << 40,
        "x": (row / 7).astype(np.float32),
    }
    failed = row % 4 == 1
    errors = np.array([f"broken {i % 3}" if failed[i] else "" for i in range(n)], object)
    blanks = {"text": "", "raw": b"", "yes": False, "big": 0, "x": np.nan}

    def check(rows: int) -> None:
        for asked in (np.argsort(k[:rows]), row[:rows][::-1], row[5:10]):
            got, errors_, found = store.load(FP, fields, k[asked])
            assert found.all() and errors_.tolist() == errors[asked].tolist()
            for f in fields:
                expected = given[f.name].copy()
                expected[failed] = blanks[f.name]
                assert got[f.name].dtype == expected.dtype
                np.testing.assert_array_equal(got[f.name], expected[asked])

    for start in range(0, n, 11):
        if start == n - 11:
            check(start)  # many parts; the next one merges them
        at = slice(start, start + 11)
        part = {name: array[at] for name, array in given.items()}
        store.append(FP, fields, k[at], part, errors[at].tolist())
    (merged,) = store.parts(FP)
    check(n)
    schema = pq.read_schema(merged)  # as the other parts, so that earlier versions read it too
    assert schema.field("text").type == schema.field("error").type == pa.string()


def test_keys_are_sorted_as_bytes() -> None:
    rng = np.random.default_rng(0)
    random = np.frombuffer(rng.bytes(32 * 200), DIGEST)
    begin = rng.integers(0, 2, (300, 32)).astype(np.uint8)  # equal in their first bytes, and NULs
    begin[:, 2:30] = 0
    for k in (
        random,
        random[rng.integers(0, 200, 300)],
        begin.reshape(-1).view(DIGEST),
        random[:0],
    ):
        assert sorted_order(k).tolist() == np.argsort(k, kind="stable").tolist()


def test_loading_does_not_import_pandas(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    fields = (*FIELDS, Field("words", "str", ""))
    given = values(9) | {"words": np.array(["a, b"] * 9, object)}
    Store(tmp_path).append(FP, fields, keys(9), given, ["", "", "broken"] * 3)
    code = (
        "import sys, numpy as np\n"
        "from thresher.storage.columns import Store\n"
        "from thresher.types import DIGEST, Field\n"
        f"fields = [Field(n, t, '') for n, t in {[(f.name, f.dtype) for f in fields]}]\n"
        f"keys = np.frombuffer(bytes.fromhex({keys(9).tobytes().hex()!r}), DIGEST)\n"
        f"_, errors, found = Store({str(tmp_path)!r}).load({FP!r}, fields, keys)\n"
        "assert found.all() and (errors == 'broken').sum() == 3\n"
        "sys.exit('pandas' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_success_takes_precedence_over_error(tmp_path: Path) -> None:
    k = keys(4)
    for turn in range(2):
        store = Store(tmp_path / str(turn))
        parts = [(values(4), ["no", "no", "", ""]), (values(4, 10), ["", "not again", "no", ""])]
        for i, (v, e) in enumerate(parts if turn else parts[::-1]):
            store.append(FP, FIELDS, k, v, e)
            store.parts(FP)[-1].rename(store.folder(FP) / f"part-{i}.parquet") if i == 0 else None
        got, errors, found = store.load(FP, FIELDS, k)
        assert found.all()
        assert errors.tolist() == ["", "not again" if turn else "no", "", ""]  # the newest
        assert got["tokens"].tolist() == [10, 0, 2, 3]


def test_newest_error_survives_a_merge(tmp_path: Path) -> None:
    store, k = Store(tmp_path), keys(2)
    for i in range(MERGE_ABOVE + 1):
        store.append(FP, FIELDS, k[:1], values(1), [f"{99 - i} left"])
    assert len(store.parts(FP)) == 1
    assert store.load(FP, FIELDS, k)[1][0] == f"{99 - MERGE_ABOVE} left"
    store.append(FP, FIELDS, k[:1], values(1), ["zero"])
    assert store.load(FP, FIELDS, k)[1][0] == "zero"


def test_part_without_a_timestamp_is_the_oldest(tmp_path: Path) -> None:
    store, k = Store(tmp_path), keys(1)
    store.append(FP, FIELDS, k, values(1), ["absent"])
    (part,) = store.parts(FP)
    pq.write_table(pq.read_table(part).replace_schema_metadata(None), part)
    assert store.load(FP, FIELDS, k)[1][0] == "absent"
    store.append(FP, FIELDS, k, values(1), ["present"])
    assert store.load(FP, FIELDS, k)[1][0] == "present"


def test_merging_parts_loses_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    n = MERGE_ABOVE + 1
    k = keys(n * 3)
    for i in range(n):
        rows = slice(3 * i, 3 * i + 3)
        errors = ["", "broken" if i % 10 == 0 else "", ""]
        store.append(FP, FIELDS, k[rows], values(3, 3 * i), errors)
        assert len(store.parts(FP)) == (i + 1 if i < MERGE_ABOVE else 1)
    got, errors_, found = store.load(FP, FIELDS, k)
    assert found.all() and (errors_ == "broken").sum() == 7
    fine = errors_ == ""
    assert (got["tokens"][fine] == np.arange(3 * n)[fine]).all()


def test_killed_merge_keeps_the_same_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    k = keys(2 * MERGE_ABOVE + 2)
    with monkeypatch.context() as m:
        # a kill between "written" and "deleted"
        m.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        for i in range(MERGE_ABOVE + 1):
            store.append(FP, FIELDS, k[2 * i : 2 * i + 2], values(2, 2 * i), ["", ""])
    assert len(store.parts(FP)) == MERGE_ABOVE + 2
    got, _, found = store.load(FP, FIELDS, k)
    assert found.all() and (got["tokens"] == np.arange(len(k))).all()
    store.append(FP, FIELDS, keys(1, seed=9), values(1), [""])
    assert len(store.parts(FP)) == 1
    assert pq.read_metadata(store.parts(FP)[0]).num_rows == len(k) + 1


def test_concurrent_writers_readers_and_merges(tmp_path: Path, warm: WarmServer) -> None:
    """Two processes write 80 parts each (so both merge) while this one reads: nothing is lost,
    nothing half-read."""
    code = """
import sys, numpy as np
from pathlib import Path
from tests.storage.test_columns import FIELDS, FP, keys, values
from thresher.storage.columns import Store
k, start = keys(400), int(sys.argv[2])
for i in range(80):
    row = (start + 3 * i) % 400
    rows = np.arange(row, row + 5) % 400
    v = {name: a[rows] for name, a in values(400).items()}
    Store(sys.argv[1]).append(FP, FIELDS, k[rows], v, [""] * 5)
"""
    writers = [warm.start(code, tmp_path, start) for start in (0, 200)]
    k, expected = keys(400), values(400)
    most = 0
    while any(w.poll() is None for w in writers):
        got, errors, found = Store(tmp_path).load(FP, FIELDS, k)
        assert (errors == "").all()
        assert (got["tokens"][found] == expected["tokens"][found]).all()
        assert found.sum() >= most, "rows that were there are gone"
        most = int(found.sum())
    assert [w.wait() for w in writers] == [0, 0]
    got, _, found = Store(tmp_path).load(FP, FIELDS, k)
    assert found.all() and (got["nll"] == expected["nll"]).all()
    assert len(Store(tmp_path).parts(FP)) <= MERGE_ABOVE + 1


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "flipped"])
def test_a_damaged_part_is_named_and_its_rows_are_missing(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    k = keys(3000)
    store.append(FP, FIELDS, k[:1000], values(1000), [""] * 1000)
    (first,) = store.parts(FP)
    store.append(FP, FIELDS, k[1000:], values(2000, 1000), [""] * 2000)
    data = bytearray(first.read_bytes())
    if damage == "flipped":
        data[len(data) // 3] ^= 4  # inside the keys: only a checksum notices
    first.write_bytes(
        {"cut": data[: len(data) // 2], "empty": b"", "noise": os.urandom(500)}.get(
            damage, bytes(data)
        )
    )
    with pytest.warns(DamagedPart, match=first.name):
        _, _, found = store.load(FP, FIELDS, k)
    assert not found[:1000].any() and found[1000:].all()
    assert (
        store.damaged == [first.with_suffix(".damaged")]
        and store.damaged[0].exists()
        and not first.exists()
    )
    _, _, found = store.load(FP, FIELDS, k)  # set aside: no second warning
    assert found.sum() == 2000


def test_out_of_memory_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.append(FP, FIELDS, keys(2), values(2), ["", ""])

    def out_of_memory(*args: object, **options: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    with monkeypatch.context() as m:
        m.setattr(pq, "ParquetFile", out_of_memory)
        with pytest.raises(MemoryError):
            store.load(FP, FIELDS, keys(2))
    assert store.damaged == [] and store.load(FP, FIELDS, keys(2))[2].all()


def test_a_part_of_another_shape_is_an_error_that_names_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(FP, FIELDS, keys(2), values(2), ["", ""])
    (part,) = store.parts(FP)
    with pytest.raises(
        StoreError,
        match=f"Column conflict.*{part.name}.*tokens: int32 in the file, int64 expected",
    ):
        store.load(FP, (FIELDS[0], Field("tokens", "int64", "count"), FIELDS[2]), keys(2))
    assert part.exists()


def test_only_old_temporary_files_are_removed(tmp_path: Path) -> None:
    store, signal = Store(tmp_path), Loss(IDENTITY)
    fp = store.register(signal)
    old, young = store.folder(fp) / f".tmp-{'0' * 32}", store.folder(fp) / f".tmp-{'1' * 32}"
    old.write_bytes(b"PAR1")
    young.write_bytes(b"PAR1")
    os.utime(old, (time.time() - STALE_AFTER - 10,) * 2)
    assert store.parts(fp) == []
    store.register(signal)
    assert not old.exists() and young.exists()


def test_signal_json_describes_the_column(tmp_path: Path) -> None:
    signal = Pair(IDENTITY, Partner(Loss(IDENTITY)))
    fp = Store(tmp_path).register(signal)
    assert fp == fingerprint(signal)
    data = json.loads((tmp_path / "columns" / fp / "signal.json").read_text())
    assert data["kind"] == "pair" and data["fields"]["nll"]["meaning"] == "nats"
    assert data["identity"]["fields"]["model"]["fields"]["weights"] == "fake:1"
    assert [p.name for p in (tmp_path / "columns" / fp).iterdir()] == ["signal.json"]


def test_full_disk_is_reported_and_damages_nothing(tmp_path: Path, warm: WarmServer) -> None:
    """RLIMIT_FSIZE in a separate process: the second, larger part cannot be written."""
    code = """
import resource, sys
from tests.storage.test_columns import FIELDS, FP, keys, values
from thresher.errors import StoreError
from thresher.storage.columns import Store
store, k = Store(sys.argv[1]), keys(20000)
store.append(FP, FIELDS, k[:10], values(10), [""] * 10)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    store.append(FP, FIELDS, k[10:], values(19990, 10), [""] * 19990)
except StoreError as e:
    print(e)
    sys.exit(7)
"""
    done = warm.run(tmp_path, code=code)
    assert done.returncode == 7, done.stderr
    assert (
        "the disk is full" in done.stdout
        and str(tmp_path) in done.stdout
        and "`store`" in done.stdout
    )
    got, _, found = Store(tmp_path).load(FP, FIELDS, keys(20000))
    assert found.sum() == 10 and (got["tokens"][:10] == np.arange(10)).all()
    assert not list(tmp_path.rglob(".tmp-*"))


def test_store_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/store"):
        Store(tmp_path / "file" / "store").append(FP, FIELDS, keys(1), values(1), [""])
    with pytest.raises(StoreError, match="s3://"):
        Store("s3://bucket/x")


def test_invalid_store_path_is_reported_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good.json").write_text("[]")
    for place in ("good.json", "good.json/deep/store"):
        for writes in (True, False):
            with pytest.raises(ConfigError, match=r"store=.*good\.json.* is a file"):
                Store(tmp_path / place).check(writes)
    Store(tmp_path / "a" / "b").check(writes=False)
    assert not (tmp_path / "a").exists()
    Store(tmp_path / "a" / "b").check()  # a run that is refused afterwards leaves nothing behind
    assert [p.name for p in tmp_path.iterdir()] == ["good.json"]
    with pytest.raises(StoreError, match=r"cannot be written to: .*too long"):
        Store(tmp_path / ("x" * 300) / "b").check()

    for number, words in ((30, "Read-only"), (13, "Permission denied"), (28, "the disk is full")):
        with monkeypatch.context() as m:
            m.setattr(
                os, "fsync", lambda _, n=number: (_ for _ in ()).throw(OSError(n, os.strerror(n)))
            )
            with pytest.raises(StoreError, match=f"store=.*a/b. cannot be written to: {words}"):
                Store(tmp_path / "a" / "b").check()
    assert [p.name for p in tmp_path.iterdir()] == ["good.json"]


def test_threads_see_complete_parts_only(tmp_path: Path) -> None:
    store, k = Store(tmp_path), keys(2000)
    stop = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(int(store.load(FP, FIELDS, k)[2].sum()))

    reader = threading.Thread(target=read)
    reader.start()
    for start in range(0, 2000, 500):
        store.append(FP, FIELDS, k[start : start + 500], values(500, start), [""] * 500)
    stop.set()
    reader.join()
    assert set(seen) <= {0, 500, 1000, 1500, 2000}
