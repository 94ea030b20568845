"""`compare --embedder`: the selections of the cells take embeddings of rows from another model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import thresher
from tests.openai_server import Plan, Server, serving
from tests.text_pools import Model, record, write_pool
from thresher.cli import main
from thresher.compare import Job, chosen_rows, make_job
from thresher.compare.opening import open_comparison
from thresher.compare.request import CompareRequest
from thresher.methods.stratified import Stratified
from thresher.methods.winnow import Winnow
from thresher.pools import open_pool
from thresher.request import RunRequest
from thresher.types import EMBEDDER, Budget

pytest.importorskip("trl")
METHODS = "length,stratified"
BY_SKILL = "stratified.by=skill"


@pytest.fixture
def embeds() -> Iterator[Server]:
    with serving(Plan(name="m", embeds="messages")) as server:
        yield server


def asked(
    folder: Path, embedder: str | None = None, settings: tuple[str, ...] = (BY_SKILL,)
) -> Job:
    """The comparison of a request, and what it says."""
    write_pool(folder / "pool.json", [record(i) for i in range(120)])
    write_pool(folder / "test.json", [record(i) for i in range(200, 220)])
    options = RunRequest(
        pool=str(folder / "pool.json"),
        model="demo",
        embedder=embedder,
        store=str(folder / "store"),
        out=str(folder / "out"),
    )
    request = CompareRequest(
        options=options,
        test=str(folder / "test.json"),
        methods=METHODS,
        budgets="10%",
        seeds=1,
        settings=settings,
    )
    said: list[str] = []
    job = open_comparison(request, said.append).job
    assert bool(said) == (embedder is not None and not settings)
    return job


def fingerprints(job: Job) -> dict[str, str]:
    return {cell.method: cell.fingerprint for cell in job.cells()}


def run(capsys: pytest.CaptureFixture[str], folder: Path, *words: str, code: int = 0) -> str:
    """All that was printed, white space collapsed."""
    given = [str(folder / "pool.json"), "--eval", str(folder / "test.json"), "-m", METHODS]
    given += ["-b", "10%", "--seeds", "1", "--no-full", "--model", "demo", "--set", BY_SKILL]
    given += ["--store", str(folder / "store")]
    with pytest.raises(SystemExit) as ended:
        main(["compare", *given, *words])
    captured = capsys.readouterr()
    printed = " ".join((captured.out + captured.err).split())
    assert int(ended.value.code or 0) == code, printed
    return printed


def test_only_cells_of_methods_that_use_an_embedder_depend_on_it(
    tmp_path: Path, embeds: Server
) -> None:
    own, other = asked(tmp_path), asked(tmp_path, f"{embeds.url}#m")
    texts = fingerprints(own), fingerprints(other)
    assert {name for name in texts[0] if texts[0][name] != texts[1][name]} == {"stratified"}
    assert set(other.roles["stratified"]) == {EMBEDDER} and not other.roles["length"]
    unused = asked(tmp_path, f"{embeds.url}#m", settings=())
    assert fingerprints(unused) == fingerprints(asked(tmp_path, settings=()))
    assert unused.request.embedder is None and not embeds.embedded


def test_finished_cells_without_an_embedder_keep_their_fingerprints(tmp_path: Path) -> None:
    """As they were before a comparison took an embedder."""
    pool = write_pool(tmp_path / "pool.json", [record(i) for i in range(40)])
    test = write_pool(tmp_path / "test.json", [record(i) for i in range(100, 120)])
    model = Model().handle
    job = make_job(
        open_pool(pool),
        open_pool(test),
        methods={"winnow": Winnow(), "stratified": Stratified(by="skill")},
        budgets=[Budget.parse("10%")],
        seeds=1,
        model=model,
        roles={"winnow": {"teacher": model}, "stratified": {}},
    )
    assert fingerprints(job) == {
        "random": "3f832cf3d1bdd5709ad4c55b7c7b1529",
        "winnow": "ab642297b8581754bc9a4837dd6dd78b",
        "stratified": "3dbda165bcfce5f3dc723e474cbbd67f",
        "full": "03b4b197135ec95d8386f792f74406bb",
    }


def test_cells_have_the_rows_of_select(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], embeds: Server
) -> None:
    embedder = f"{embeds.url}#m"
    own, other = asked(tmp_path), asked(tmp_path, embedder)
    for place, devices in (("out", "cpu"), ("divided", "cpu,cpu")):
        out = tmp_path / place
        more = ["--devices", devices, "--store", str(tmp_path / f"store of {place}")]
        run(capsys, tmp_path, "--embedder", embedder, "-o", str(out), *more)
        (cell,) = [c for c in other.cells() if c.method == "stratified"]
        rows = chosen_rows(out, cell, other.pool)
        chosen = thresher.select(
            tmp_path / "pool.json",
            "stratified",
            "10%",
            settings={"by": "skill"},
            model="demo",
            embedder=embedder,
            store=str(tmp_path / "select"),
        )
        assert rows.tolist() == chosen.rows.tolist() and embeds.embedded
    printed = run(capsys, tmp_path, "-o", str(tmp_path / "out"))
    assert "1 of 1: stratified 10%, seed 0" in printed, "the other cells are finished"
    (cell,) = [c for c in own.cells() if c.method == "stratified"]
    assert chosen_rows(tmp_path / "out", cell, own.pool).tolist() != rows.tolist()
    listed = json.loads((tmp_path / "divided" / "compare.json").read_text())["cells"]
    assert len(listed) == 3


def test_the_plan_counts_the_embedders_requests_and_asks_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], embeds: Server
) -> None:
    asked(tmp_path)
    words = ["--embedder", f"{embeds.url}#m", "--plan", "--no-probe", "-o", str(tmp_path / "out")]
    assert "rows to score" in run(capsys, tmp_path, *words)
    assert not embeds.embedded


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["-m", "winnow", "--set", "winnow.layer=0.7", "--embedder", "EMBEDS"],
            "--set winnow.layer=0.7 is for hidden states, and --embedder names a server",
        ),
        (["--embed-text"], "names none. Leave it out"),
        (["--embedder", "nowhere/"], "--embedder nowhere/"),
    ],
)
def test_what_is_refused_before_the_first_cell(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    embeds: Server,
    more: list[str],
    said: str,
) -> None:
    asked(tmp_path)
    words = [f"{embeds.url}#m" if word == "EMBEDS" else word for word in more]
    given = [str(tmp_path / "pool.json"), "--eval", str(tmp_path / "test.json"), "--model", "demo"]
    given += ["-o", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    given += [] if "-m" in words else ["-m", METHODS, "--set", BY_SKILL]
    with pytest.raises(SystemExit) as ended:
        main(["compare", *given, *words])
    printed = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2 and said in printed, printed
    assert not embeds.embedded and not (tmp_path / "out").exists()
