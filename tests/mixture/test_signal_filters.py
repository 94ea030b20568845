"""Filters and quotas on signals of a model: what leaves, what it costs, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import thresher
from thresher.cli import main
from thresher.demo.mixes import Mix, Source
from thresher.demo.pool import make_pool
from thresher.viewer.session import Session

ROWS = 240
MIX = Mix(
    "two questions",
    "Colours and shapes, a third of the answers wrong.",
    (
        Source("colours", 0.7, {"colour": 1.0}, {"word": 1.0}, wrong=0.3, instruct=1.0),
        Source("shapes", 0.3, {"shape": 1.0}, {"word": 1.0}, wrong=0.3, instruct=1.0),
    ),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signals")
    make_pool(folder, ROWS, 4, MIX)
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    said = capsys.readouterr()
    return int(ended.value.code or 0), " ".join((said.out + said.err).split())


def words(world: Path, *more: str, pool: str = "pool.json") -> list[str]:
    """A command on a pool, with the scores stored by earlier tests."""
    return [str(world / pool), "--store", str(world / "store"), "--model", "demo", *more]


def select(
    capsys: pytest.CaptureFixture[str], world: Path, out: Path, *more: str, pool: str = "pool.json"
) -> tuple[int, str]:
    asked = [] if "--method" in more else ["--method", "random"]
    asked += [] if "--budget" in more else ["--budget", "100%"]
    return run(capsys, "select", *words(world, *asked, "-o", str(out), *more, pool=pool))


def taken(out: Path) -> list[int]:
    rows: list[int] = pq.read_table(out / "selection.parquet")["row"].to_pylist()
    return rows


def changed(world: Path, name: str, change: Any) -> None:
    """A pool with other records than the first."""
    records = json.loads((world / "pool.json").read_text("utf-8"))
    for row, record in enumerate(records):
        change(row, record)
    (world / name).write_text(json.dumps(records), "utf-8")


@pytest.mark.parametrize("least", ["0.9", "0.5"])
def test_a_filter_leaves_out_wrong_answers(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], least: str
) -> None:
    labels = (world / "hidden_labels.jsonl").read_text("utf-8").splitlines()
    wrong = np.array([label["noisy"] for label in map(json.loads, labels)])
    rule = f"suspicion < {least}"
    code, said = select(capsys, world, tmp_path / "out", "--filter", rule)
    kept = taken(tmp_path / "out")
    left = np.setdiff1d(np.arange(ROWS), kept)
    assert code == 0 and f"{len(left)} rows left out by --filter '{rule}'." in said
    assert len(left) >= 10 and wrong[left].mean() > 0.75 > wrong.mean()
    notes = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text("utf-8"))["notes"]
    assert f"{len(left)} rows left out by --filter '{rule}'." in notes
    evidence = pq.read_table(tmp_path / "out" / "evidence.parquet")
    assert max(evidence["suspicion"].to_pylist()) < float(least)

    code, said = select(capsys, world, tmp_path / "drop", "--drop-suspects", least)
    assert code == 0 and taken(tmp_path / "drop") == kept


def test_plan_select_again_replay_and_view(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(tmp_path / "store")]
    asked = ["--method", "perplexity", "--budget", "50%", "--filter", "suspicion < 0.9", *store]
    _, said = run(capsys, "plan", *words(world, *asked, "--json"))
    plan = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert plan["to_score"] > 0 and any("no row is left out yet" in n for n in plan["notes"])
    losses = [s for s in plan["signals"] if s["signal"] == "answer_loss"]
    assert len(losses) == 2 and len({s["fingerprint"] for s in losses}) == 2  # none counted twice

    first = select(capsys, world, tmp_path / "first", *asked)
    assert first[0] == 0 and f"answer_loss: {ROWS} needed, {ROWS} scored, 0 reused" in first[1]
    _, said = run(capsys, "plan", *words(world, *asked, "--json"))
    plan = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert plan["to_score"] == 0
    assert any("left out by --filter 'suspicion < 0.9'" in note for note in plan["notes"])

    code, said = select(capsys, world, tmp_path / "second", *asked)
    assert code == 0 and "Nothing was scored" in said
    code, said = run(
        capsys,
        "select",
        "--config",
        str(tmp_path / "first" / "run.yaml"),
        "-o",
        str(tmp_path / "c"),
    )
    assert code == 0 and "Nothing was scored" in said
    subset = (tmp_path / "first" / "subset.json").read_bytes()
    for other in ("second", "c"):
        assert (tmp_path / other / "subset.json").read_bytes() == subset
    session = Session(tmp_path / "first")
    assert session.fixed == ""
    assert session.displayed.outcome is not None
    assert session.displayed.outcome.rows.tolist() == taken(tmp_path / "first")
    code, _ = run(capsys, "signals", str(tmp_path / "first"), "-o", str(tmp_path / "all.parquet"))
    suspicion = pq.read_table(tmp_path / "all.parquet")["suspicion.suspicion"].to_pylist()
    assert code == 0 and len(suspicion) == ROWS and sum(s >= 0.9 for s in suspicion) >= 10
    chosen = thresher.select(
        str(world / "pool.json"),
        "perplexity",
        "50%",
        model="demo",
        filter="suspicion < 0.9",
        store=str(tmp_path / "store"),
    )
    assert chosen.rows.tolist() == taken(tmp_path / "first")
    assert all(signal.scored == 0 for signal in chosen.outcome.signals)


def test_the_viewer_names_the_model_of_a_filter(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    select(capsys, world, tmp_path / "out", "--filter", "suspicion < 0.9", "--budget", "9")
    session = Session(tmp_path / "out")
    command = session.command(session.first)
    assert "--method random" in command and "--model demo" in command
    assert "'suspicion < 0.9'" in command


def test_what_was_scored_before_an_interruption_is_not_scored_again(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "half.txt").write_text("".join(f"row:{i}\n" for i in range(ROWS // 2)))
    rule = ["--filter", "entropy > 0", "--store", str(tmp_path / "store")]
    code, said = select(
        capsys, world, tmp_path / "half", "--drop", str(tmp_path / "half.txt"), *rule
    )
    assert code == 0 and f"entropy: {ROWS // 2} needed, {ROWS // 2} scored" in said
    code, said = select(capsys, world, tmp_path / "all", *rule)
    assert f"entropy: {ROWS} needed, {ROWS // 2} scored, {ROWS // 2} reused" in said


def test_the_order_of_filters_changes_nothing(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = ["answer_loss < 2", "source == colours", "suspicion < 0.9"]
    found = []
    for i, order in enumerate((rules, rules[::-1])):
        asked = [word for rule in order for word in ("--filter", rule)]
        code, _ = select(capsys, world, tmp_path / str(i), *asked)
        assert code == 0
        found.append(taken(tmp_path / str(i)))
    assert found[0] == found[1] and 0 < len(found[0]) < ROWS * 0.7


def test_a_field_of_the_records_takes_precedence(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(world, "own.json", lambda row, record: record.update({"entropy": row, "skill": "a b"}))
    code, said = select(capsys, world, tmp_path / "1", "--filter", "entropy < 50", pool="own.json")
    assert code == 0 and sorted(taken(tmp_path / "1")) == list(range(50))
    assert (
        "the records have a field 'entropy', which is used. The signal is entropy.entropy" in said
    )
    assert "random asks no model" in said  # so none is named in run.yaml
    rule = ["--filter", "entropy.entropy >= 0", "--filter", "entropy < 50"]
    code, said = select(capsys, world, tmp_path / "2", *rule, pool="own.json")
    assert code == 0 and sorted(taken(tmp_path / "2")) == list(range(50))
    assert "entropy: 50 needed" in said  # filters on records come first, which saves scoring
    code, said = select(
        capsys, world, tmp_path / "3", "--quota", "skill:a b=7", "--budget", "7", pool="own.json"
    )
    assert code == 0 and "the records have a field 'skill'" in said
    code, said = select(capsys, world, tmp_path / "4", "--filter", ".suspicion < 1")
    assert code == 2 and "no row has 'suspicion'" in said  # a dot refers to the field of the record


def test_rows_that_fail_are_left_out_and_counted(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_some(every: int) -> Any:
        def change(row: int, record: dict[str, Any]) -> None:
            if row % every == 0:
                record["image"] = f"gone{row}.png"

        return change

    changed(world, "some.json", break_some(40))
    changed(world, "many.json", break_some(4))
    rule = ["--filter", "answer_loss >= 0"]
    code, said = select(capsys, world, tmp_path / "some", *rule, pool="some.json")
    broken = set(range(0, ROWS, 40))
    assert code == 0 and set(taken(tmp_path / "some")) == set(range(ROWS)) - broken
    assert "6 rows left out because answer_loss could not be computed for them." in said
    lines = (tmp_path / "some" / "failures.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["row"] for line in lines] == sorted(broken)
    counts = yaml.safe_load((tmp_path / "some" / "run.yaml").read_text("utf-8"))["counts"]
    assert counts["left_out"] == 6 and counts["usable"] == ROWS - 6

    (tmp_path / "keep.txt").write_text("row:0\n")
    more = [*rule, "--keep", str(tmp_path / "keep.txt")]
    code, said = select(capsys, world, tmp_path / "kept", *more, pool="some.json")
    assert code == 0 and set(taken(tmp_path / "kept")) == set(range(ROWS)) - broken | {0}

    code, said = select(capsys, world, tmp_path / "many", *rule, pool="many.json")
    assert code == 1 and "60 of 240 rows cannot be used (at most 5%" in said
    more = [*rule, "--on-missing", "exclude"]
    code, said = select(capsys, world, tmp_path / "many", *more, pool="many.json")
    assert code == 0 and len(taken(tmp_path / "many")) == 180
    _, said = run(capsys, "plan", *words(world, "-m", "random", "-b", "9", *rule, pool="many.json"))
    assert "60 rows left out because answer_loss could not be computed" in said


def test_rows_without_a_value(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def without_image(row: int, record: dict[str, Any]) -> None:
        if row < 20:
            del record["image"]
            first = record["conversations"][0]
            first["value"] = first["value"].replace("<image>", "").strip()

    changed(world, "texts.json", without_image)
    rule = ["--filter", "visual_gain > -100"]
    code, said = select(capsys, world, tmp_path / "1", *rule, pool="texts.json")
    assert code == 0 and sorted(taken(tmp_path / "1")) == list(range(20, ROWS))
    assert "20 rows left out by --filter 'visual_gain > -100'. 20 rows of them have no" in said
    rule = ["--filter", "visual_gain != 0"]
    code, said = select(capsys, world, tmp_path / "2", *rule, pool="texts.json")
    assert code == 0 and len(taken(tmp_path / "2")) == ROWS


@pytest.mark.parametrize(("how", "videos"), [("keep", 3), ("random", 3), ("drop", 0)])
def test_rows_that_no_model_can_score_are_exempt(
    how: str, videos: int, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def video(row: int, record: dict[str, Any]) -> None:
        if row < 3:
            record["video"] = record.pop("image").replace(".png", ".mp4")

    changed(world, "videos.json", video)
    rule = ["--filter", "answer_loss < 0", "--filter", "images != 5", "--unscorable", how]
    code, said = select(capsys, world, tmp_path / "none", *rule, pool="videos.json")
    if how == "drop":
        assert code == 2 and "No row is left: " in said
    else:
        assert code == 0 and sorted(taken(tmp_path / "none")) == [0, 1, 2]
    rule[1] = "answer_loss >= 0"
    code, said = select(capsys, world, tmp_path / "all", *rule, pool="videos.json")
    assert code == 0 and len(taken(tmp_path / "all")) == ROWS - 3 + videos
    assert not (tmp_path / "all" / "failures.jsonl").exists()


def test_a_plan_before_skills_are_known(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["-m", "random", "-b", "10%", "--no-probe", "--store", str(tmp_path / "store")]
    asked += ["--quota", "skill:any=..5", "--quota", "shapes=10"]
    code, said = run(capsys, "plan", *words(world, *asked))
    assert code == 0 and "--quota skill:any=..5: its rows are known once they are scored" in said
    assert "240 rows to score" in said
    assert "--quota shapes=10: at least 10 and at most 10 of the 72 rows there" in said


def test_quotas_by_skill(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = select(
        capsys, world, tmp_path / "s", "--method", "stratified", "--set", "by=skill", "-b", "50%"
    )
    assert code == 0 and "considered → kept:" in said
    page = (tmp_path / "s" / "report.html").read_text("utf-8")
    evidence = pq.read_table(tmp_path / "s" / "evidence.parquet")
    labels = np.array(evidence["skill"].to_pylist())
    names, rows = np.unique(labels, return_counts=True)
    largest, second = names[np.argsort(-rows, kind="stable")][:2].tolist()
    assert len(names) == 8 and largest in page and "<h3>Skill</h3>" in page

    quota = ["--quota", f"skill:{largest}=7", "--quota", f"skill: {second} = ..3", "--budget", "60"]
    code, said = select(capsys, world, tmp_path / "q", *quota)
    skill_of = dict(zip(evidence["row"].to_pylist(), labels.tolist(), strict=True))
    count = [skill_of[row] for row in taken(tmp_path / "q")]
    assert code == 0 and len(count) == 60
    assert count.count(largest) == 7 and count.count(second) <= 3
    shown = pq.read_table(tmp_path / "q" / "selection.parquet")
    assert shown["skill"].to_pylist() == count

    code, said = select(capsys, world, tmp_path / "x", "--quota", "skill:nonsense=7")
    assert code == 2 and "no row has skill 'nonsense'" in said and largest in said
    code, said = select(capsys, world, tmp_path / "f", "--filter", f"skill == '{largest}'")
    assert code == 0 and {skill_of[row] for row in taken(tmp_path / "f")} == {largest}
    code, said = select(capsys, world, tmp_path / "n", "--filter", f"skill != '{largest}'")
    assert code == 0 and len(taken(tmp_path / "n")) == ROWS - len(taken(tmp_path / "f"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--filter", "suspicon < 0.9"], "no row has 'suspicon'. Did you mean 'suspicion'?"),
        (["--filter", "nll < 2"], "a field of 2 signals. Write answer_loss or answer_loss_with"),
        (["--filter", "gap > 2"], "a field of a signal. Write own_answer_gap"),
        (["--filter", "answer_loss.nl > 2"], "Did you mean 'answer_loss.nll'"),
        (["--filter", "skill < 3"], "skill has no numbers, but for example"),
        (["--filter", "greedy_match == maybe"], "greedy_match is true or false, not 'maybe'"),
        (["--filter", "entropy == blue"], "entropy is a number, and 'blue' is none"),
        (["--filter", "suspicion < high"], "'high' is not a number"),
        (["--filter", "entropy > 1e9"], "No row is left: 240 rows left out by"),
        (["--quota", "skill=10%"], "'skill' is a signal: write skill:VALUE"),
        (["--quota", "suspicon:1=10%"], "no row has 'suspicon'"),
        (["--filter", "entropy > 0", "--quota", "nosource=5"], "no source is called 'nosource'"),
    ],
)
def test_mistakes(
    options: list[str], said: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, heard = select(capsys, world, tmp_path / "out", *options)
    assert code == 2 and said in heard and "Traceback" not in heard


def test_a_signal_needs_a_model_whose_weights_are_here(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "select",
        str(world / "pool.json"),
        "-m",
        "random",
        "-b",
        "9",
        "-o",
        str(tmp_path / "o"),
    ]
    asked += ["--store", str(tmp_path / "s"), "--filter", "suspicion < 0.9"]
    code, said = run(capsys, *asked)
    assert code == 2 and "--filter 'suspicion < 0.9' needs a model" in said
    code, said = run(capsys, *asked, "--model", "http://127.0.0.1:9/v1#m")
    assert code == 2 and "behind a server" in said
