"""`--embedder`: embeddings of rows from another model than `--model`, here or behind a server."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
import yaml

from tests.openai_server import Plan, Server, serving
from thresher import cli
from thresher.report.folder import load
from thresher.report.suspects_section import suspects_command, suspects_section
from thresher.signals import Embedding
from thresher.viewer.session import Session

SEED_FREE = ("--set", "guard=off", "trust=base")


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_pool: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("tests.cli.test_embedder.POOL", tiny_pool)


POOL = Path()


@pytest.fixture
def losses() -> Iterator[Server]:
    """The built-in model behind a server that gives losses, and no embeddings."""
    with serving(Plan(model="demo", name="m")) as server:
        yield server


@pytest.fixture
def embeds() -> Iterator[Server]:
    """A server that embeds messages, under the same name."""
    with serving(Plan(name="m", embeds="messages")) as server:
        yield server


def run(capsys: pytest.CaptureFixture[str], command: str, *words: str, code: int = 0) -> str:
    """All that was printed, white space collapsed."""
    given = [command, str(POOL), "--images", str(POOL.parent / "images")]
    given += [] if command == "suspects" else ["--budget", "4"]
    given += ["--out", "out"] if command == "select" and "--out" not in words else []
    with pytest.raises(SystemExit) as ended:
        cli.main([*given, *words])
    captured = capsys.readouterr()
    printed = " ".join((captured.out + captured.err).split())
    assert int(ended.value.code or 0) == code, printed
    assert "Traceback" not in printed
    return printed


def subset(folder: str = "out") -> Any:
    return json.loads(Path(folder, "subset.json").read_text(encoding="utf-8"))


def test_winnow_without_weights_here(
    capsys: pytest.CaptureFixture[str], losses: Server, embeds: Server
) -> None:
    """Losses from one server, embeddings from another with the same name of the model."""
    words = ["--method", "winnow", *SEED_FREE, "--model", f"{losses.url}#m"]
    words += ["--embedder", f"{embeds.url}#m"]
    planned = run(capsys, "plan", *words)
    assert "each of its embeddings" in planned and not embeds.embedded
    run(capsys, "select", *words)
    assert len(subset()) == 4 and losses.asked and embeds.embedded
    assert not losses.embedded and not embeds.asked
    parts = [body["messages"][0]["content"] for _, _, body in embeds.embedded]
    assert any(isinstance(part, list) for part in parts), "images are sent"
    stored = yaml.safe_load(Path("out/run.yaml").read_text(encoding="utf-8"))
    assert stored["config"]["embedder"] == f"{embeds.url}#m"
    assert stored["model"]["identity"]["engine"] == ""
    assert stored["roles"]["embedder"]["name"] == "m (embeddings)"
    assert stored["roles"]["embedder"]["identity"]["engine"] == "embeddings"
    kinds = {s["label"]: s["signal"] for s in stored["signals"]}
    assert kinds["skills.question"] == kinds["skills.answer"] == "pooled_embedding"
    asked, shown = len(embeds.embedded), len(losses.asked)
    run(capsys, "select", "--config", "out/run.yaml", "--out", "again")
    assert subset("again") == subset()
    assert (len(embeds.embedded), len(losses.asked)) == (asked, shown), "all scores are stored"
    session = Session("out")
    assert not session.fixed


def test_the_only_model_of_a_server_is_named_in_the_record(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A repeated run, which needs no scores, does not ask the server for its name."""
    with serving(Plan(name="m", embeds="messages")) as server:
        words = ["--method", "stratified", "--set", "by=skill", "--embedder", server.url]
        run(capsys, "select", *words)
        stored = yaml.safe_load(Path("out/run.yaml").read_text(encoding="utf-8"))
        assert stored["config"]["embedder"] == f"{server.url}#m"
    printed = run(capsys, "select", "--config", "out/run.yaml", "--out", "again")
    assert subset("again") == subset()
    # it needed a model's skills, which are stored: no row is scored, and no cost is noted
    assert "Selecting: not measured; saved" in printed
    assert "no model needed" not in Path("again/report.html").read_text(encoding="utf-8")


def test_skills_depend_on_the_embedder(capsys: pytest.CaptureFixture[str], embeds: Server) -> None:
    found = []
    for name, more in (
        ("own", ["--model", "demo"]),
        ("same", ["--embedder", "demo"]),
        ("served", ["--embedder", f"{embeds.url}#m"]),
        ("texts", ["--embedder", f"{embeds.url}#m", "--embed-text"]),
    ):
        words = ["--method", "stratified", "--set", "by=skill", *more, "--store", f"of {name}"]
        words += ["--out", name]
        run(capsys, "select", *words)
        stored = yaml.safe_load(Path(name, "run.yaml").read_text(encoding="utf-8"))
        found.append([s["fingerprint"] for s in stored["signals"]])
    assert found[0] == found[1] and subset("own") == subset("same")
    assert len({tuple(f) for f in found}) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "winnow", "--model", "LOSSES"], "with --embedder: a folder or a hub id"),
        (["--method", "visnec", "--model", "LOSSES"], "--embedder"),
        (["--method", "clipper", "--set", "balance=skill", "--model", "LOSSES"], "--embedder"),
        (["--method", "random", "--filter", "skill=a", "--model", "LOSSES"], "--embedder"),
        (["--method", "random", "--drop-suspects", "0.5", "--model", "LOSSES"], "--embedder"),
        (["--method", "random", "--dedup", "semantic", "--model", "LOSSES"], "--embedder"),
        (
            ["--method", "winnow", "--model", "demo", "--embedder", "EMBEDS", "--set", "layer=0.7"],
            "--set layer=0.7 is for hidden states",
        ),
        (
            ["--method", "visnec", "--model", "demo", "--embedder", "EMBEDS", "--set", "layer=1"],
            "--set layer=1 is for hidden states",
        ),
        (
            ["--method", "random", "--dedup", "semantic", "--embedder", "EMBEDS"],
            "give --dedup-threshold",
        ),
        (
            ["--method", "random", "--dedup", "semantic", "--embedder", "EMBEDS", "--embed-text"],
            "--embed-text leaves them out",
        ),
        (["--method", "winnow", "--model", "demo", "--embed-text"], "names none. Leave it out"),
        (["--method", "winnow", "--model", "demo", "--embedder", ""], "'' is empty"),
        (["--method", "winnow", "--embedder", "demo"], "needs a model, and none was named"),
        (["--method", "winnow", "--set", "skills=demo", "--model", "demo"], "has no setting"),
    ],
)
def test_what_is_refused_before_any_request(
    capsys: pytest.CaptureFixture[str],
    losses: Server,
    embeds: Server,
    words: list[str],
    said: str,
) -> None:
    urls = {"LOSSES": f"{losses.url}#m", "EMBEDS": f"{embeds.url}#m"}
    printed = run(capsys, "select", *[urls.get(w, w) for w in words], code=2)
    assert said in printed
    assert not losses.asked and not embeds.embedded and not Path("out").exists()


@pytest.mark.parametrize("served", [False, True])
def test_a_server_without_embeddings_stops_before_another_model_scores(
    capsys: pytest.CaptureFixture[str], losses: Server, served: bool
) -> None:
    model = f"{losses.url}#m" if served else "demo"
    words = ["--method", "winnow", *SEED_FREE, "--model", model, "--embedder", f"{losses.url}#m"]
    printed = run(capsys, "select", *words, code=2)
    assert (
        f"The server {losses.url} has the model 'm', but gives no embeddings (HTTP 404" in printed
    )
    assert "--runner pooling" in printed
    assert "loss:" not in printed and not losses.asked


@pytest.mark.parametrize("plan", [{"embeds": "texts"}, {"embeds": "messages", "sees": False}])
def test_images_are_left_out_only_if_that_is_asked_for(
    capsys: pytest.CaptureFixture[str], plan: dict[str, Any]
) -> None:
    with serving(Plan(name="m", **plan)) as server:
        words = ["--method", "stratified", "--set", "by=skill", "--embedder", f"{server.url}#m"]
        printed = run(capsys, "select", *words, code=2)
        assert "--embed-text" in printed
        run(capsys, "select", *words, "--embed-text")
        assert len(subset()) == 4
        good = [body for fate, _, body in server.embedded if fate == "ok" and "input" in body]
        assert good and "image" not in json.dumps(good)


def test_rows_that_fail_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """A vector of zeros is a failure of its row, which is left out."""
    first = json.loads(POOL.read_text(encoding="utf-8"))[0]
    words = first["conversations"][0]["value"].replace("<image>", "").strip()
    with serving(Plan(name="m", embeds="messages", vectors={words: [0.0] * 16})) as server:
        given = ["--method", "stratified", "--set", "by=skill", "--embedder", f"{server.url}#m"]
        printed = run(capsys, "select", *given, "--on-missing", "exclude")
        assert "zero-vector" in printed
        asked = len(server.embedded)
        run(capsys, "select", *given, "--on-missing", "exclude", "--out", "again")
        assert len(server.embedded) == asked, "a stored failure is not asked again"


def test_other_options_use_the_embedder(
    capsys: pytest.CaptureFixture[str], losses: Server, embeds: Server
) -> None:
    model, other = ("--model", f"{losses.url}#m"), ("--embedder", f"{embeds.url}#m")
    dedup = ["--dedup", "semantic", "--dedup-threshold", "0.9", *other]
    rows = len(json.loads(POOL.read_text(encoding="utf-8")))
    planned = run(capsys, "plan", "--method", "random", *dedup)
    assert f"{3 * rows} requests to a server" in planned, "images, question and answer"
    run(capsys, "select", "--method", "random", *dedup)
    assert not losses.asked
    planned = run(capsys, "plan", "--method", "random", "--filter", "suspicion<2", *model, *other)
    assert "skills.question" in planned
    words = ["--drop-suspects", "0.99", *model, *other, "--out", "second"]
    run(capsys, "select", "--method", "random", *words)
    run(capsys, "suspects", *model, *other)
    made = load("second")
    lead = suspects_section(made).lead
    assert "by the loss of m, in skills of the embeddings of m (embeddings)" in lead
    words = shlex.split(suspects_command(made.run))
    assert words[words.index("--embedder") + 1] == other[1]


def test_suspects_stop_at_a_limit_and_continue(
    capsys: pytest.CaptureFixture[str], losses: Server, embeds: Server
) -> None:
    """The same command takes as many requests again, until the list is complete."""
    words = ["--model", f"{losses.url}#m", "--embedder", f"{embeds.url}#m"]
    rows = len(json.loads(POOL.read_text(encoding="utf-8")))
    limited = [*words, "--max-requests", "40", "--price-in", "1", "--price-out", "2"]
    printed = run(capsys, "suspects", *limited, code=1)
    assert f"of {rows} are left to score. Stopped at --max-requests 40: " in printed
    assert "at the prices given" in printed
    seen = [len(losses.asked) + len(embeds.embedded)]
    for _ in range(9):
        with pytest.raises(SystemExit) as ended:
            cli.main(["suspects", str(POOL), "--images", str(POOL.parent / "images"), *limited])
        printed = " ".join("".join(capsys.readouterr()).split())
        seen.append(len(losses.asked) + len(embeds.embedded))
        if not ended.value.code:
            break
    assert not ended.value.code and f"of {rows} suspected" in printed
    assert all(after - before <= 40 for before, after in zip([0, *seen], seen, strict=False))
    assert f"Note: {seen[-1] - seen[-2]} requests sent, " in printed
    printed = run(capsys, "suspects", *words, "--json")
    assert "requests sent" not in printed, "everything is stored"
    texts = [text for fate, text, _ in embeds.embedded if fate == "ok"]
    assert len(texts) <= 2 * rows + 3 * len(seen), "no row is embedded twice"


def test_suspects_take_the_other_options_of_servers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-key")
    plan = {"key": "secret-key", "name": "m"}
    with (
        serving(Plan(model="demo", **plan)) as losses,
        serving(Plan(embeds="messages", **plan)) as embeds,
    ):
        words = ["--model", f"{losses.url}#m", "--embedder", f"{embeds.url}#m", "--leaves", "1"]
        words += ["--api-key-env", "MY_KEY", "--image-side", "32", "--timeout", "60"]
        printed = run(capsys, "suspects", *words, "--concurrency", "2")
        assert "requests sent" in printed and "secret-key" not in printed
        asked = len(losses.asked), len(embeds.embedded)
        run(
            capsys,
            "select",
            "--method",
            "random",
            "--drop-suspects",
            "0.99",
            *words[:4],
            *words[6:],
        )
        assert (len(losses.asked), len(embeds.embedded)) == asked, "the same scores"
        repeated = shlex.split(suspects_command(load("out").run))
        for name in ("--image-side", "--api-key-env"):
            assert repeated[repeated.index(name) + 1] == words[words.index(name) + 1]


@pytest.mark.parametrize("command", ["select", "suspects"])
@pytest.mark.parametrize("spec", ["ftp://host/v1#m", "no/such/folder"])
def test_the_name_of_an_embedder_may_be_a_url(
    capsys: pytest.CaptureFixture[str], command: str, spec: str
) -> None:
    words = [] if command == "suspects" else ["--method", "winnow"]
    printed = run(capsys, command, *words, "--model", "demo", "--embedder", spec, code=2)
    assert f"--embedder {spec}: no such folder" in printed
    assert "URL#NAME of an embeddings server (http or https)" in printed


def test_options_of_servers_need_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, "suspects", "--model", "demo", "--max-requests", "5", code=2)
    assert "--max-requests is for a model behind a server, and none is named" in printed


def test_an_embedder_that_nothing_uses_is_named(
    capsys: pytest.CaptureFixture[str], embeds: Server
) -> None:
    words = ["--method", "perplexity", "--model", "demo", "--embedder", f"{embeds.url}#m"]
    printed = run(capsys, "select", *words)
    assert (
        f"perplexity uses no embeddings of rows; --embedder {embeds.url}#m is not used" in printed
    )
    stored = yaml.safe_load(Path("out/run.yaml").read_text(encoding="utf-8"))
    assert "embedder" not in stored["config"] and not stored["roles"]


def test_the_stored_vectors_are_the_servers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At length 1, in half precision."""
    with serving(Plan(name="m", embeds="messages", vectors={"": [3.0, 4.0]})) as server:
        words = ["--method", "stratified", "--set", "by=skill", "--embedder", f"{server.url}#m"]
        run(capsys, "select", *words)
    with pytest.raises(SystemExit):
        cli.main(["signals", "out", "--out", "s.parquet"])
    capsys.readouterr()
    column = parquet.read_table("s.parquet")["skills.question.vector"].to_pylist()
    vectors = Embedding.array({"vector": np.array([bytes.fromhex(v) for v in column if v], "S512")})
    assert len(vectors) and np.allclose(vectors[:, :2], [0.6, 0.8], atol=1e-3)
    assert not vectors[:, 2:].any()


@pytest.mark.parametrize(
    "words",
    [
        ["--method", "stratified", "--set", "by=skill"],
        ["--method", "length", "--dedup", "semantic", "--dedup-threshold", "0.9"],
    ],
)
def test_another_model_under_the_servers_name_is_noticed_in_a_later_run(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """Its vectors have another size than the stored ones; 256 numbers of each are stored."""
    vectors = {"": [3.0, 4.0]}
    with serving(Plan(name="m", embeds="messages", vectors=vectors)) as server:
        words = [*words, "--embedder", f"{server.url}#m"]
        run(capsys, "select", *words, "--filter", "length < 3")
        vectors[""] = [1.0, 2.0, 2.0]
        printed = run(capsys, "select", *words, "--out", "more", code=2)
    assert "the vectors of 'm' are of different models" in printed
    assert "with 2 numbers and" in printed and "with 3 numbers" in printed
    assert "give another --store" in printed and not Path("more").exists()
