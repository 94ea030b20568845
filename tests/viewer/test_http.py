"""HTTP interface of the viewer: rows, images, changes, errors next to their field, and export."""

from __future__ import annotations

import filecmp
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.report.image_pools import HOSTILE, hostile_records, selected
from tests.viewer.sessions import Client, pool_of, session_of
from thresher.cli import main
from thresher.viewer.session import Session

UNSAFE = re.compile(
    r"<(script|img src=x|iframe|svg onload|style>body|a href=.javascript)", re.IGNORECASE
)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(session_of(tmp_path, "length"))


def test_the_page_has_every_setting_with_its_help(tmp_path: Path) -> None:
    page = (
        Client(session_of(tmp_path, "clipper", prefer="least_helped")).get("/page").json()["html"]
    )
    for word in (
        "prefer_share",
        "knowledge_ratio",
        "rows taken by preference",
        'id="slider"',
        'id="seed"',
    ):
        assert word in page
    assert re.search(r"<option selected>least_helped</option>", page)
    assert re.search(r'<option value="clipper"[^>]*selected>', page)
    assert "style=" not in page and "onclick" not in page  # nothing that the policy would refuse


def test_another_budget_gives_other_rows_and_counts(client: Client) -> None:
    got = client.select("10%")
    assert got["ok"] and got["kept"] == 16
    assert re.fullmatch(r"16 of 160 rows kept \(10\.0%\), chosen in \d+\.\d\d s\.", got["status"])
    assert "10.0%" in got["html"]["counts"] and "--budget 10%" in got["html"]["command"]
    assert client.rows(show="kept")["count"] == "16 rows"
    assert client.select("70%")["kept"] == 112 and client.rows(show="kept")["count"] == "112 rows"


def test_another_method_brings_its_settings(client: Client) -> None:
    asked = {"method": "stratified", "budget": "10%", "seed": "0", "settings": {}}
    got = client.change("/select", asked)
    assert got["ok"] and 'data-setting="by"' in got["html"]["settings"]
    assert "settings" not in client.select("20%")["html"]


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"budget": "0.3"}, "budget", "Did you mean 30%?"),
        ({"budget": ""}, "budget", "not a budget"),
        ({"budget": "2 tokens please"}, "budget", "tokens"),
        ({"seed": "-1"}, "seed", "whole number"),
        ({"seed": "1e3"}, "seed", "whole number"),
        ({"settings": {"unit": "pages"}}, "set-unit", "words | chars"),
        ({"method": "perplexity", "settings": {}}, "", "is not stored for 160 of 160 rows"),
        ({"method": "no_such", "settings": {}}, "method", "no such method"),
    ],
)
def test_error_is_shown_beside_its_field(
    client: Client, change: dict[str, object], field: str, says: str
) -> None:
    asked = {
        "method": "length",
        "budget": "10%",
        "seed": "0",
        "settings": {"unit": "words"},
    } | change
    before = client.session.displayed
    got = client.change("/select", asked)
    assert not got["ok"] and got["problem"]["field"] == field and says in got["problem"]["text"]
    assert client.session.displayed is before


def test_setting_out_of_range_is_reported_beside_it(tmp_path: Path) -> None:
    client = Client(session_of(tmp_path, "clipper"))
    for name, value in (("bins", "0"), ("prefer_share", "2"), ("bins", ""), ("bins", "many")):
        problem = client.select("10%", **{name: value})["problem"]
        assert problem["field"] == f"set-{name}" and problem["text"].startswith(name)


def test_missing_column_comes_with_its_command(tmp_path: Path) -> None:
    client = Client(session_of(tmp_path, "clipper"))
    asked = {
        "method": "clipper",
        "budget": "12%",
        "seed": "5",
        "settings": dict(client.session.first.settings),
    }
    problem = client.change("/select", asked)["problem"]
    assert "is not stored for" in problem["text"]
    words = shlex.split(problem["command"].replace("\\\n", ""))
    assert words[:2] == ["thresher", "select"] and words[words.index("--seed") + 1] == "5"
    assert words[words.index("--out") + 1] == str(tmp_path / "clipper-12")


def test_pinning_is_applied_at_once_and_can_be_undone(client: Client) -> None:
    row = int(re.search(r'data-row="(\d+)"', client.rows(show="dropped")["html"])[1])  # type: ignore[index]
    got = client.change("/pin", {"rows": [row], "state": "pinned"})
    assert got["ok"] and "1 pinned" in got["html"]["pins"] and "--keep" in got["html"]["command"]
    html = client.rows(show="pinned")["html"]
    assert f'id="pin-{row}"' in html and 'aria-pressed="true"' in html and "you pinned it" in html
    got = client.change("/pin", {"rows": [row], "state": "banned"})
    assert "0 pinned" in got["html"]["pins"] and "1 banned" in got["html"]["pins"]
    assert "you banned it" in client.rows(show="banned")["html"]
    for _ in range(2):
        assert client.change("/undo", {})["ok"]
    assert "No row is pinned" in client.change("/undo", {}).get("html", {}).get(
        "pins", "No row is pinned"
    )
    assert client.rows(show="pinned")["count"] == client.rows(show="banned")["count"] == "0 rows"


def test_more_pins_than_the_budget_are_refused_and_not_saved(client: Client) -> None:
    client.select("3")
    got = client.change("/pin", {"rows": list(range(9)), "state": "pinned"})
    assert not got["ok"] and "budget is 3" in got["problem"]["text"]
    assert not (client.session.folder / "view").exists()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/pin", {"rows": [160], "state": "pinned"}),
        ("/pin", {"rows": [-1], "state": "pinned"}),
        ("/pin", {"rows": [True], "state": "pinned"}),
        ("/pin", {"rows": ["1"], "state": "pinned"}),
        ("/pin", {"rows": list(range(1001)), "state": "pinned"}),
        ("/pin", {"rows": [1], "state": "eaten"}),
        ("/pin", {}),
        ("/select", {"method": "length"}),
        ("/select", {"method": "length", "budget": "1%", "seed": 0, "settings": {}}),
        ("/select", {"method": "length", "budget": "x" * 3000, "seed": "0", "settings": {}}),
        (
            "/select",
            {"method": "length", "budget": "1%", "seed": "0", "settings": {"unit": ["words"]}},
        ),
        ("/select", {"method": "length", "budget": "1%", "seed": "0", "settings": "unit"}),
        ("/select", []),
        ("/export", {"where": 7}),
    ],
)
def test_invalid_requests_are_bad_requests(client: Client, path: str, body: object) -> None:
    assert client.post(path, body).status_code == 400


@pytest.mark.parametrize(
    ("error", "says"), [(MemoryError(), "memory"), (ZeroDivisionError("x"), "bug")]
)
def test_failing_method_does_not_break_the_page(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def broken(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("thresher.methods.length.LongestAnswers.select", broken)
        problem = client.select("10%")["problem"]
    assert says in problem["text"] and problem["field"] == ""
    assert client.rows(show="kept")["count"] == "48 rows" and client.select("10%")["kept"] == 16


def test_pages_filters_and_order(client: Client) -> None:
    first = client.rows()
    assert first["count"] == "160 rows" and first["page"] == 0 and "Page 1 of 7" in first["html"]
    assert first["html"].count("<li class=") == 24
    last = client.rows(page=99)
    assert last["page"] == 6 and last["html"].count("<li class=") == 16
    assert (
        client.rows(source="=charts")["count"]
        == client.rows(source="=charts", show="nonsense")["count"]
    )
    assert (
        "charts" in client.rows(source="=charts")["html"]
        and "photos" not in client.rows(source="=charts")["html"]
    )
    kept, dropped = client.rows(show="kept"), client.rows(show="dropped")
    assert (kept["count"], dropped["count"]) == ("48 rows", "112 rows")
    best = re.findall(r"rank (\d+)", client.rows(sort="rank")["html"])
    assert best == [str(i) for i in range(1, 25)]
    lengths = [
        int(n)
        for n in re.findall(
            r"answer length</dt><dd><bdi>(\d+)", client.rows(sort="-length")["html"]
        )
    ]
    assert lengths == sorted(lengths, reverse=True) and len(lengths) == 24
    assert ["length", "answer length"] in client.rows()["sorts"]
    assert client.rows(view="table")["html"].count("<tr class=") == 24


def test_reasons_and_words_are_searched(client: Client) -> None:
    kinds = client.rows()["kinds"]
    assert "inside the cut" in kinds and "outside the cut" in kinds
    inside, outside, sample = (
        client.rows(kind=k) for k in ("inside the cut", "outside the cut", "tied at the cut")
    )
    assert all(got["complete"] or "searched" in got["count"] for got in (inside, outside, sample))
    assert "outside the cut" not in inside["html"]
    found = client.rows(words="NUMBER 157?")
    assert found["count"] == "1 row" and "Row 157" in found["html"]
    assert client.rows(words="r17 charts")["complete"]
    assert (
        client.rows(words="no such words")["count"] == "0 rows"
        and "No row matches" in client.rows(words="zzz")["html"]
    )
    assert client.rows(words="3.png", show="kept")["complete"]


def test_search_stops_at_its_time_limit_and_continues(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thresher.viewer.browse.SECONDS", -1.0)
    monkeypatch.setattr("thresher.viewer.browse.CHUNK", 30)
    got = client.rows(words="number 150?")
    assert (
        got["count"] == "0 so far: searched 30 of 160 rows"
        and "Continue search" in got["html"]
        and not got["complete"]
    )
    for _ in range(5):
        got = client.rows(words="number 150?", more=1)
    assert got["count"] == "1 row" and "Row 150" in got["html"] and got["complete"]


def test_a_whole_record_is_shown_as_text(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", 2, hostile_records())
    client = Client(Session(selected(pool, "length", tmp_path / "out", "50%")))
    got = client.get("/row/1").json()
    assert got["title"] == "Row 1" and json.loads(got["text"])["id"] == "r1"
    long = max((client.get(f"/row/{i}").json()["text"] for i in range(len(pool))), key=len)
    assert "truncated" in long and len(long) < 101_000
    assert all("\x00" not in client.get(f"/row/{i}").json()["text"] for i in range(len(pool)))
    assert client.get("/row/99").status_code == 404 and client.get("/row/-1").status_code == 404


def test_unchangeable_selection_is_reported_on_the_page(tmp_path: Path) -> None:
    session = session_of(tmp_path, "unheard", rows=40)  # a plug-in that is not installed here
    client = Client(session)
    page = client.get("/page").json()["html"]
    assert "nothing can be changed" in page and "<fieldset disabled>" in page
    assert client.rows()["count"] == "40 rows" and "disabled" in client.rows()["html"]
    for path, body in (("/pin", {"rows": [1], "state": "pinned"}), ("/export", {"where": "mine"})):
        got = client.change(path, body)
        assert not got["ok"] and "nothing can be changed" in got["problem"]["text"]
    assert (
        "<svg" in client.get("/plots").json()["html"]
        and client.get("/image/1/0").status_code == 200
    )


def test_images_are_small_and_addressed_by_number(client: Client) -> None:
    got = client.get("/image/1/0")
    assert (
        got.status_code == 200
        and got.headers["content-type"] == "image/jpeg"
        and len(got.content) < 20_000
    )
    assert got.content.startswith(b"\xff\xd8") and client.get("/image/1/0").content == got.content
    for path in (
        "/image/1/9",
        "/image/2/0",
        "/image/160/0",
        "/image/1/-1",
        "/image/x/0",
        "/image/1/../../pool.json",
        "/image/%2e%2e/pool.json",
        "/image/99999999999999999999/0",
    ):
        assert client.get(path).status_code == 404, path


def test_image_linked_outside_the_folder_is_not_served(tmp_path: Path) -> None:
    texts = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "It."}]
    rows = [
        {"id": p, "image": p, "conversations": texts}
        for p in ("../../secret.png", "/etc/hostname", "link.png")
    ]
    (tmp_path / "pool" / "images").mkdir(parents=True)
    shutil.copy(
        next((Path(__file__).parents[2] / "docs" / "images").glob("*.png")), tmp_path / "secret.png"
    )
    (tmp_path / "pool" / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    from thresher.pools import open_pool

    (tmp_path / "pool" / "pool.json").write_text(json.dumps(rows))
    pool = open_pool(tmp_path / "pool" / "pool.json", tmp_path / "pool" / "images")
    client = Client(Session(selected(pool, "length", tmp_path / "out")))
    for row in range(3):
        got = client.get(f"/image/{row}/0")
        assert got.status_code == 404 and b"PNG" not in got.content


@pytest.mark.parametrize(
    "name", ["../viewer.js", "app.py", "..%2f..%2fapp.py", "view.html.jinja", ""]
)
def test_only_the_named_files_are_static(client: Client, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404
    assert client.get("/static/viewer.js").headers["content-type"].startswith("text/javascript")


def test_hostile_text_is_escaped(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", 8, hostile_records())
    client = Client(Session(selected(pool, "length", tmp_path / "out", "50%")))
    client.change("/pin", {"rows": [len(pool) - 1], "state": "pinned"})
    pieces = [
        client.get("/page").json()["html"],
        client.get("/plots").json()["html"],
        *client.change("/undo", {})["html"].values(),
    ]
    for text in (*HOSTILE.values(), ""):
        for view in ("cards", "table"):
            got = client.get(
                "/rows", words=text[:300], source="=" + text[:60], view=view, kind=text[:100]
            )
            assert got.status_code == 200
            pieces.append(got.json()["html"])
        for view in ("cards", "table"):
            pieces.append(client.rows(words=text[:50], view=view)["html"])
    assert len(pieces[-1]) > 1000
    for piece in pieces:
        found = UNSAFE.search(piece.replace('<script src="/static/viewer.js" defer></script>', ""))
        assert found is None, found
        assert "\x00" not in piece
    assert any("{{7*7}}" in piece for piece in pieces)  # displayed as text, not evaluated


def test_plots_follow_the_selection(client: Client) -> None:
    before = client.get("/plots").json()["html"]
    client.select("90%")
    after = client.get("/plots").json()["html"]
    assert "How length chose" in after and "<svg" in after and before != after


# ------------------------------------------------------------------------------------------- export


@pytest.mark.parametrize("method", ["length", "stratified"])
def test_exported_folder_equals_the_displayed_commands(tmp_path: Path, method: str) -> None:
    client = Client(session_of(tmp_path, method))
    client.change("/pin", {"rows": [2, 5], "state": "pinned"})
    client.change("/pin", {"rows": [90], "state": "banned"})
    client.select("17%")
    got = client.change("/export", {"where": "mine"})
    assert got["ok"], got
    own = tmp_path / "mine"
    code = re.search(r"<code>(.*?)</code>", got["html"]["exported"], re.DOTALL)
    assert code is not None
    words = shlex.split(code[1].replace("\\\n", "").replace("&#39;", "'"))
    words[words.index("--out") + 1] = str(tmp_path / "again")
    with pytest.raises(SystemExit) as stop:
        main(words[1:])
    assert stop.value.code == 0
    for name in ("subset.json", "selection.parquet", "evidence.parquet"):
        assert filecmp.cmp(own / name, tmp_path / "again" / name, shallow=False), name
    kept = [json.loads(line)["row"] for line in (own / "keep.jsonl").read_text().splitlines()]
    assert kept == [2, 5] and (own / "report.html").is_file()
    again = Session(own)  # and it can be opened in its turn
    assert again.displayed.kept == 27 and again.pins.drop[90]
    # a replay of its run.yaml is the same too
    with pytest.raises(SystemExit):
        main(["select", "--config", str(own / "run.yaml"), "--out", str(tmp_path / "replay")])
    assert filecmp.cmp(
        own / "selection.parquet", tmp_path / "replay" / "selection.parquet", shallow=False
    )


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("", "name"),
        ("out", "exists already"),
        ("..", "from the root"),
        ("../else", "from the root"),
        ("a/b", "from the root"),
        ("~no_such_user/x", "from the root"),
        ("/no/such/place/here", "is not a folder"),
        ("x" * 300, ""),
        ("bad\0name", "name"),
    ],
)
def test_export_needs_a_new_folder(client: Client, tmp_path: Path, where: str, says: str) -> None:
    before = sorted(p.name for p in tmp_path.iterdir())
    got = client.change("/export", {"where": where})
    assert not got["ok"] and got["problem"]["field"] == "where" and says in got["problem"]["text"]
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_an_export_that_fails_leaves_nothing_behind(client: Client, tmp_path: Path) -> None:
    client.change("/pin", {"rows": [2], "state": "pinned"})
    client.session.pool.path.write_text("[]")  # the pool is changed under us
    got = client.change("/export", {"where": "mine"})
    assert (
        not got["ok"] and "changed" in got["problem"]["text"] and not (tmp_path / "mine").exists()
    )
    assert not client.rows()["ok"] and client.get("/image/1/0").status_code == 404


@pytest.mark.slow
def test_with_a_real_model_the_export_is_what_the_command_writes(tmp_path: Path) -> None:
    """CLIPPER under the built-in model: scored once by the command, chosen again by the viewer,
    written alike by both."""
    pool, store = pool_of(tmp_path / "pool", 60), str(tmp_path / "store")
    first = [
        "select",
        str(pool.path),
        "--images",
        str(pool.images_folder),
        "--method",
        "clipper",
        "--budget",
        "30%",
    ]
    with pytest.raises(SystemExit) as stop:
        main([*first, "--model", "demo", "--store", store, "--out", str(tmp_path / "out")])
    assert stop.value.code == 0
    client = Client(Session(tmp_path / "out"))
    assert not client.session.fixed
    client.change(
        "/pin",
        {"rows": [int(np.flatnonzero(client.session.displayed.state == 1)[0])], "state": "pinned"},
    )
    assert client.select("45%", prefer="least_helped")["kept"] == 27
    got = client.change("/export", {"where": "mine"})
    assert got["ok"], got
    words = shlex.split(
        re.search(r"<code>(.*?)</code>", got["html"]["exported"], re.DOTALL)[1].replace("\\\n", "")
    )  # type: ignore[index]
    words[words.index("--out") + 1] = str(tmp_path / "again")
    with pytest.raises(SystemExit) as stop:
        main(words[1:])
    assert stop.value.code == 0
    for name in ("subset.json", "selection.parquet", "evidence.parquet"):
        assert filecmp.cmp(tmp_path / "mine" / name, tmp_path / "again" / name, shallow=False), name
