"""Pool arguments: folders, patterns, mixtures, several named pools, addresses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml
from PIL import Image

from thresher.errors import PoolError
from thresher.pools import open_pool
from thresher.pools.sampling import sample_indices


def rows(*names: str, image: str = "") -> list[dict[str, Any]]:
    turns = [("<image>" if image else "", "A")]
    return [
        {
            "id": n,
            **({"image": image} if image else {}),
            "conversations": [{"from": "human", "value": q + n}, {"from": "gpt", "value": a}],
        }
        for n in names
        for q, a in turns
    ]


def write(file: Path, records: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = file.suffix == ".jsonl"
    file.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))
    return file


def ids(path: Any, **options: Any) -> list[str]:
    pool = open_pool(path, **options)
    return pool.ids(range(len(pool)))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write(tmp_path / "base/a.json", rows("a0", "a1", "a2"))
    write(tmp_path / "base/b.jsonl", rows("b0", "b1"))
    write(tmp_path / "base/deep/c.json", rows("c0"))
    (tmp_path / "base/notes.txt").write_text("no pool")
    return tmp_path / "base"


def test_folders_and_patterns(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ids(base) == ["a0", "a1", "a2", "b0", "b1"]
    assert open_pool(base).source_names == ("a", "b") and open_pool(base).format == "mixed"
    assert ids(base.parent) == [
        "a0",
        "a1",
        "a2",
        "b0",
        "b1",
        "c0",
    ]  # not a file itself: all files below it
    assert (
        ids(f"{base}/*.json*")
        == ids(f"{base}/{{a.json,b.jsonl}}")
        == ["a0", "a1", "a2", "b0", "b1"]
    )
    assert ids(f"{base}/**/*.json") == ["a0", "a1", "a2", "c0"]
    monkeypatch.chdir(base)
    assert ids("*.jsonl") == ["b0", "b1"] and open_pool("*.jsonl").spec == f"{base}/*.jsonl"
    with pytest.raises(PoolError, match=r"No file matches \*\.tar"):
        open_pool("*.tar")
    with pytest.raises(PoolError, match="does not exist"):
        open_pool("{a.json,z.json}")


def test_several_pools_with_names(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    pool = open_pool("one=a.json, two=b.jsonl")
    assert [pool.source_names[s] for s in pool.source] == ["one"] * 3 + ["two"] * 2
    assert ids(["a.json", "b.jsonl"]) == ids("a.json,b.jsonl") == pool.ids(range(5))
    monkeypatch.chdir(base.parent)
    assert ids(pool.spec) == pool.ids(range(5)) and open_pool(pool.spec).source_names == (
        "one",
        "two",
    )
    assert not pool.notes
    write(base / "own.json", [{**row, "data_source": "coco"} for row in rows("c0", "c1")])
    write(base / "x,y=z.json", rows("odd"))
    assert ids(base / "x,y=z.json") == ["odd"]


def test_dataset_info_that_names_its_own_folder_is_refused(base: Path) -> None:
    for name in (".", "dataset_info.json", "dataset_info.json#mine", f"../{base.name}"):
        (base / "dataset_info.json").write_text(
            json.dumps({"mine": {"file_name": name, "formatting": "sharegpt"}})
        )
        for spec in (base, base / "dataset_info.json", f"{base}/dataset_info.json#mine"):
            with pytest.raises(
                PoolError,
                match=r"contains itself|does not exist|names no existing file",
            ):
                open_pool(spec)
    (base / "mix.yaml").write_text("datasets:\n- json_path: " + "x" * 100_000 + "\n")
    with pytest.raises(PoolError, match="is not a path: it has 100,") as result:
        open_pool(base / "mix.yaml")
    assert len(str(result.value)) < 600


def test_user_source_name_takes_precedence(base: Path, tmp_path: Path) -> None:
    """A source that the user names takes precedence in quotas; the record keeps its field."""

    def sources(spec: str, **more: object) -> list[str]:
        pool = open_pool(spec, **more)  # type: ignore[arg-type]
        return [pool.source_names[s] for s in pool.source]

    own = base / "own.json"
    write(
        own,
        [
            {**row, "data_source": source}
            for row, source in zip(rows("c0", "c1"), ("coco", "vg"), strict=True)
        ],
    )
    cache = tmp_path / "cache"
    assert sources(str(own), cache=cache) == ["coco", "vg"]
    # not what the cache has of the unnamed
    assert sources(f"mine={own}", cache=cache) == ["mine", "mine"]
    assert sources(f"one={base}/a.json,mine={own}") == ["one"] * 3 + ["mine"] * 2
    named = open_pool(f"mine={own}")
    assert [named.record(r)["data_source"] for r in (0, 1)] == ["coco", "vg"]
    assert named.digest.tobytes() == open_pool(own).digest.tobytes()
    mixture = base / "mix.yaml"
    mixture.write_text(
        "datasets:\n- {json_path: own.json, source: mine, sampling_strategy: 'first:1'}\n- "
        "own.json\n"
    )
    assert sources(str(mixture)) == ["mine", "coco", "vg"]


def test_combined_samples_are_those_of_the_parts(base: Path, tmp_path: Path) -> None:
    pool = open_pool(base.parent, cache=tmp_path / "cache")
    assert [s.turns[0].text for s in pool.samples([5, 0, 3])] == ["c0", "a0", "b0"]
    for row, digest in enumerate(pool.digest.tolist()):
        assert pool.by_digest(digest).id == f'"{pool.ids([row])[0]}"'
    again = open_pool(base.parent, cache=tmp_path / "cache")
    assert (
        again.digest.tobytes() == pool.digest.tobytes()
        and again.order.tolist() == pool.order.tolist()
    )
    assert len(list((tmp_path / "cache").iterdir())) == 1
    write(base / "a.json", rows("a9"))
    assert ids(base.parent, cache=tmp_path / "cache") == ["a9", "b0", "b1", "c0"]
    with pytest.raises(PoolError, match="changed since it was opened"):
        pool.sample(0)


def test_images_of_several_folders(tmp_path: Path) -> None:
    for name, colour in (("x", (9, 0, 0)), ("y", (0, 9, 0))):
        write(tmp_path / name / "p.json", rows(name, image="i.png"))
        Image.new("RGB", (2, 2), colour).save(tmp_path / name / "i.png")
    pool = open_pool(f"{tmp_path}/*/p.json")
    assert [s.images[0].path for s in pool.samples([0, 1])] == ["x/i.png", "y/i.png"]
    assert [pool.load_image(s.images[0]).getpixel((0, 0)) for s in pool.samples([0, 1])] == [
        (9, 0, 0),
        (0, 9, 0),
    ]
    together = open_pool(f"{tmp_path}/*/p.json", tmp_path / "x")
    assert [s.images[0].path for s in together.samples([0, 1])] == ["i.png", "i.png"]
    spec = {"datasets": [{"path": "x/p.json"}, {"path": "y/p.json", "images": "x", "source": "Y"}]}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(spec))
    mixed = open_pool(tmp_path / "m.yaml")
    assert [s.images[0].path for s in mixed.samples([0, 1])] == [
        "i.png",
        "i.png",
    ] and "Y" in mixed.source_names


# ----------------------------------------------------------------------------------------- mixtures


@pytest.mark.parametrize("n", [1, 7, 10, 999])
@pytest.mark.parametrize("amount", ["10%", "33%", "2.5%", "100%", "0%", "3", "5000"])
def test_sampling_strategies_count_like_llava_next(n: int, amount: str) -> None:
    """Its train.py: ceil(int(percent) * n / 100), or int(number); then a slice from either end, or
    of a shuffled list."""
    k = min(
        n,
        math.ceil(round(float(amount[:-1]) * n, 6) / 100) if amount.endswith("%") else int(amount),
    )
    assert sample_indices(f"first:{amount}", n, 0).tolist() == list(range(n))[:k]
    assert sample_indices(f"end:{amount}", n, 0).tolist() == list(range(n))[n - k :]
    drawn = sample_indices(f"random:{amount}", n, 0).tolist()
    assert (
        len(set(drawn)) == len(drawn) == k
        and drawn == sorted(drawn)
        and all(0 <= r < n for r in drawn)
    )


def test_random_sampling_depends_only_on_the_seed() -> None:
    a = sample_indices("random:20%", 1000, 0, "x").tolist()
    assert a == sample_indices("random:20%", 1000, 0, "x").tolist()
    assert (
        a
        != sample_indices("random:20%", 1000, 1, "x").tolist()
        != sample_indices("random:20%", 1000, 1, "y").tolist()
    )
    counts = sum(sample_indices("random:20%", 100, seed).tolist().count(3) for seed in range(500))
    assert 60 < counts < 140  # each row about one time in five


def mixture(base: Path, **content: Any) -> Path:
    (base / "mix.yaml").write_text(yaml.safe_dump(content))
    return base / "mix.yaml"


def test_onevision_mixture(base: Path, tmp_path: Path) -> None:
    write(base / "many.json", rows(*(f"m{i:03d}" for i in range(200))))
    entries: list[Any] = [
        {"json_path": "{a.json,b.jsonl}", "sampling_strategy": "all"},
        {"json_path": "many.json", "sampling_strategy": "first:1%"},
        {"json_path": "many.json", "sampling_strategy": "end:2"},
        {"json_path": "many.json", "sampling_strategy": "random:10%", "source": "drawn"},
    ]
    file = mixture(base, datasets=entries)
    pool = open_pool(file, cache=tmp_path / "cache")
    got = pool.ids(range(len(pool)))
    assert (
        got[:9] == ["a0", "a1", "a2", "b0", "b1", "m000", "m001", "m198", "m199"] and len(got) == 29
    )
    assert [pool.source_names[s] for s in pool.source[9:]] == ["drawn"] * 20
    assert [s.turns[0].text for s in pool.samples(range(29))] == got
    assert ids(file, cache=tmp_path / "cache") == ids(file) == got
    assert ids(mixture(base, datasets=entries, seed=1))[9:] != got[9:]
    assert ids(mixture(base, datasets=[entries[3], entries[3]]))[:20] != ids(base / "mix.yaml")[20:]


def test_sampled_mixture_lists_only_its_images_and_sources(tmp_path: Path) -> None:
    records = [r for i in range(10) for r in rows(f"r{i}", image=f"{i}.png")]
    for i, record in enumerate(records):
        record["source"] = f"s{i}"
    write(tmp_path / "p.json", records)
    file = mixture(tmp_path, datasets=[{"json_path": "p.json", "sampling_strategy": "end:3"}])
    pool = open_pool(file)
    assert list(pool.index.image_path) == ["7.png", "8.png", "9.png"] and pool.source_names == (
        "s7",
        "s8",
        "s9",
    )
    assert [s.source for s in pool.samples([0, 1, 2])] == ["s7", "s8", "s9"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"sampling_strategy": "all"}, "entry 1 of datasets has no json_path"),
        (
            {"json_path": "a.json", "sampling_strategy": "middle:3"},
            "sampling_strategy 'middle:3'; expected all, first:10%",
        ),
        ({"json_path": "a.json", "sample": "all"}, "unknown sample; known: json_path"),
        ({"json_path": "z.json"}, "z.json does not exist"),
        ({"json_path": "a.json", "images": "nowhere"}, "image folder .*nowhere does not exist"),
        (7, "7; expected"),
    ],
)
def test_wrong_mixtures(base: Path, entry: Any, words: str) -> None:
    with pytest.raises(PoolError, match=words):
        open_pool(mixture(base, datasets=[entry]))


def test_broken_yaml(base: Path) -> None:
    (base / "mix.yaml").write_text("datasets: [")
    with pytest.raises(PoolError, match="not valid YAML"):
        open_pool(base / "mix.yaml")
    with pytest.raises(PoolError, match="names no data sets"):
        open_pool(mixture(base, datasets=[]))


# ---------------------------------------------------------------------------------------- addresses


def test_memory_addresses(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    image = tmp_path / "i.png"
    Image.new("RGB", (2, 2), (9, 0, 0)).save(image)
    fs.pipe("/bucket/pools/p.json", json.dumps(rows("r", image="sub/i.png")).encode())
    fs.pipe("/bucket/pools/sub/i.png", image.read_bytes())
    fs.pipe("/bucket/pools/q.jsonl", "\n".join(map(json.dumps, rows("q0", "q1"))).encode())
    try:
        pool = open_pool("memory://bucket/pools/p.json", cache=tmp_path / "cache")
        ref = pool.sample(0).images[0]
        assert ref.size == image.stat().st_size and not pool.facts["missing_images"].any()
        assert pool.load_image(ref).getpixel((0, 0)) == (9, 0, 0)
        assert (
            pool.digest[0]
            == open_pool(
                write(tmp_path / "p.json", rows("r", image="sub/i.png")), "memory://bucket/pools"
            ).digest[0]
        )
        assert ids("memory://bucket/pools/*.json*") == ["r", "q0", "q1"]
        assert ids("memory://bucket/pools/p.json", cache=tmp_path / "cache") == ["r"]
        fs.pipe("/bucket/pools/p.json", json.dumps(rows("new")).encode())
        assert ids("memory://bucket/pools/p.json", cache=tmp_path / "cache") == ["new"]
        with pytest.raises(PoolError, match="cannot be read"):
            open_pool("memory://bucket/pools/none.json")
        with pytest.raises(PoolError, match="cannot be opened"):
            open_pool("nonsense://bucket/x.json")
    finally:
        fs.rm("/bucket", recursive=True)


@pytest.mark.slow
def test_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server_module = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        fs = fsspec.filesystem("s3")
        fs.mkdir("bucket")
        image = tmp_path / "i.png"
        Image.new("RGB", (2, 2), (9, 0, 0)).save(image)
        fs.pipe("bucket/p/a.json", json.dumps(rows("a", image="i.png")).encode())
        fs.pipe("bucket/p/b.jsonl", "\n".join(map(json.dumps, rows("b0", "b1"))).encode())
        fs.put(str(image), "bucket/p/i.png")
        pool = open_pool("s3://bucket/p/a.json", cache=tmp_path / "cache")
        assert pool.load_image(pool.sample(0).images[0]).getpixel((0, 0)) == (9, 0, 0)
        assert ids("s3://bucket/p/a.json", cache=tmp_path / "cache") == ["a"]
        assert ids("s3://bucket/p/*.json*") == ["a", "b0", "b1"]
        with pytest.raises(PoolError, match="cannot be read"):
            open_pool("s3://bucket/p/none.json")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


def test_self_referencing_mixture_is_refused(base: Path) -> None:
    (base / "one.yaml").write_text("datasets:\n  - json_path: two.yaml\n")
    (base / "two.yaml").write_text("datasets:\n  - json_path: one.yaml\n")
    with pytest.raises(
        PoolError,
        match=r"one\.yaml contains itself, directly or through another "
        r"listing",
    ):
        open_pool(base / "one.yaml")
    (base / "twice.yaml").write_text("datasets:\n  - json_path: a.json\n  - json_path: a.json\n")
    assert len(open_pool(base / "twice.yaml")) == 2 * len(open_pool(base / "a.json"))


def test_a_name_in_any_script_and_a_named_path_with_a_comma(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(base / "pool, x=1.json", rows("p0"))
    monkeypatch.chdir(base)
    pool = open_pool("fotos ü=a.json,данные=b.jsonl")
    assert pool.source_names == ("fotos ü", "данные")
    one = open_pool("mine=pool, x=1.json")
    assert one.source_names == ("mine",) and one.ids([0]) == ["p0"]
    monkeypatch.chdir(base.parent)
    assert ids(one.spec) == ["p0"] and ids(pool.spec) == ids(base / "a.json") + ids(
        base / "b.jsonl"
    )


def test_image_folders_without_common_parent_are_reported(base: Path, tmp_path: Path) -> None:
    listed = [
        {"path": str(base / "a.json"), "images": str(tmp_path)},
        {"path": str(base / "b.jsonl"), "images": "/usr"},
    ]
    (base / "mix.yaml").write_text(yaml.safe_dump({"datasets": listed}))
    with pytest.raises(
        PoolError,
        match=r"nothing in common .*--absolute-paths` and open those "
        r"with images=./",
    ):
        open_pool(base / "mix.yaml")


@pytest.mark.parametrize("scheme", ["file://", "FILE://"])
def test_file_addresses_are_local_paths(tmp_path: Path, scheme: str) -> None:
    file = write(tmp_path / "a.json", rows("1", image="a.png"))
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    pool = open_pool(f"{scheme}{file}", images=f"{scheme}{tmp_path}")
    assert pool.spec == str(file.resolve())
    assert pool.images_folder == tmp_path.resolve()
    assert len(pool.samples([0])) == 1
