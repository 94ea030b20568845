"""Server options on the command line and in a config file: valid combinations, and what is
stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.openai_server import Plan, serving
from tests.text_pools import record, write_pool
from thresher import cli, methods
from thresher.errors import ConfigError
from thresher.request import RunRequest
from thresher.selection.config import combine, read

URL = "http://127.0.0.1:9/v1"
SECRET = "hunter2-very-secret"


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setitem(methods.METHODS, "asked", "tests.one_question_method:Asked")
    write_pool(tmp_path / "pool.json", [record(i) for i in range(20)])


def run(capsys: pytest.CaptureFixture[str], *words: str, method: str = "asked") -> tuple[int, str]:
    """Exit code, and all that was printed."""
    with pytest.raises(SystemExit) as ended:
        cli.main(
            ["select", "pool.json", "--method", method, "--budget", "5", "--out", "out", *words]
        )
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return int(ended.value.code or 0), captured.out + captured.err


@pytest.mark.parametrize(
    ("words", "result"),
    [
        (["--backend", "openai"], "such as --url http"),
        (["--url", URL], "Add --backend openai"),
        (["--backend", "open-ai", "--url", URL], "Did you mean 'openai'"),
        (["--max-requests", "5"], "--max-requests is for a model behind a server"),
        (
            ["--max-cost", "5", "--concurrency", "2", "--model", "demo"],
            ("--max-cost, --concurrency are for"),
        ),
        (["--backend", "openai", "--url", URL, "--model", f"{URL}#m"], "its URL belongs to --url"),
        (["--backend", "openai", "--url", f"{URL}#m"], "name its model with --model"),
        (["--backend", "openai", "--url", "127.0.0.1:8000"], "not a server's URL"),
        (
            ["--backend", "openai", "--url", URL, "--model", "m", "--max-cost", "1"],
            "--price-in and --price-out",
        ),
        (
            ["--backend", "openai", "--url", URL, "--model", "m", "--price-in", "1"],
            ("--price-in without --price-out"),
        ),
        (
            ["--backend", "openai", "--url", URL, "--model", "m", "--price-out", "1"],
            ("--price-out without --price-in"),
        ),
        (
            ["--model", "demo", "--price-in", "1", "--price-out", "1"],
            ("--price-in, --price-out are for"),
        ),
        (
            ["--backend", "openai", "--url", URL, "--model", "m", "--concurrency", "0"],
            "--concurrency 0",
        ),
        (
            ["--backend", "openai", "--url", URL, "--model", "m", "--image-side", "4"],
            "--image-side 4",
        ),
        (["--backend", "openai", "--url", URL, "--model", "m", "--timeout", "0"], "--timeout 0"),
        (
            ["--backend", "openai", "--url", URL, "--model", "m", "--api-key-env", SECRET],
            "--api-key-env takes the name",
        ),
        (
            ["--backend", "openai", "--url", f"http://me:{SECRET}@host/v1", "--model", "m"],
            "Remove it",
        ),
        (["--model", f"http://me:{SECRET}@host/v1#m"], "Remove it"),
        (["--set", f"teacher=http://{SECRET}@host/v1#m"], "Remove it"),
    ],
)
def test_wrong_combinations(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], result: str
) -> None:
    code, output = run(capsys, *words)
    assert code == 2 and result in output and SECRET not in output
    kept = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert SECRET.encode() not in kept


def test_a_run_and_its_run_yaml(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with serving(Plan(name="org/m")) as server:
        served = ["--backend", "openai", "--url", server.url]
        code, output = run(
            capsys,
            *served,
            "--price-in",
            "1",
            "--price-out",
            "2.5",
            "--max-cost",
            "9",
            "--image-side",
            "512",
        )
        assert code == 0 and "20 requests sent" in output and "at the prices given" in output
        run_config = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())
        kept = {
            k: run_config["config"][k]
            for k in ("backend", "url", "model", "max_cost", "price_in", "price_out", "image_side")
        }
        assert kept == {
            "backend": "openai",
            "url": server.url,
            "model": "org/m",
            "max_cost": 9.0,
            "price_in": 1.0,
            "price_out": 2.5,
            "image_side": 512,
        }
        assert (
            "512px" in run_config["model"]["identity"]["pixels"]
            and "torch" not in run_config["model"]["identity"].values()
        )
        code, output = run(capsys, "--config", "out/run.yaml")
        assert code == 0 and len(server.asked) == 20
        code, output = run(
            capsys, "--model", f"{server.url}#org/m", "--image-side", "512"
        )  # the same, written in another way
        assert code == 0 and len(server.asked) == 20


def test_method_without_a_model_ignores_the_server(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, output = run(
        capsys, "--backend", "openai", "--url", URL, "--max-requests", "3", method="random"
    )
    assert code == 0 and "random asks no model; --backend openai is not used" in output
    run_config = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())["config"]
    assert (
        run_config["backend"] == "hf"
        and "url" not in run_config
        and "max_requests" not in run_config
    )


def test_limits_of_an_unused_served_model_are_ignored(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _ = run(capsys, "--model", f"{URL}#m", "--max-requests", "3", method="random")
    assert code == 0
    code, output = run(capsys, "--config", "out/run.yaml", method="random")
    assert code == 0, output


@pytest.mark.parametrize("method", ["mllm_selector", "winnow", "visnec", "dics"])
def test_methods_that_need_weights_fail_before_any_request(
    capsys: pytest.CaptureFixture[str], method: str
) -> None:
    with serving(Plan()) as server:
        code, output = run(
            capsys, "--backend", "openai", "--url", server.url, "--model", "scripted", method=method
        )
        assert code == 2 and "server" in output and "Give" in output and "folder" in output
        assert not server.asked


@pytest.mark.parametrize("method", ["perplexity", "clipper"])
def test_a_server_without_losses_fails_after_one_test_request(
    capsys: pytest.CaptureFixture[str], method: str
) -> None:
    with serving(Plan()) as server:
        code, output = run(
            capsys, "--backend", "openai", "--url", server.url, "--model", "scripted", method=method
        )
        assert code == 2 and "behind a server" in output and "--model with a folder" in output
        assert "prompt_logprobs" in output and len(server.asked) == 1


@pytest.mark.parametrize(
    ("method", "settings", "also"),
    [
        ("perplexity", (), ()),
        ("clipper", (), ()),
        ("winnow", ("--set", "guard=off", "trust=base"), ("--embedder", "demo")),
        ("visnec", (), ("--embedder", "demo")),
    ],
)
def test_a_server_with_losses_selects(
    capsys: pytest.CaptureFixture[str],
    method: str,
    settings: tuple[str, ...],
    also: tuple[str, ...],
) -> None:
    """The same rows as with the model in this process. `also`: words for the server."""
    kept = []
    with serving(Plan(model="demo", name="m")) as server:
        for model, more in (("demo", ()), (f"{server.url}#m", also)):
            out = f"out{len(kept)}"
            words = ("--model", model, "--out", out, *settings, *more)
            code, output = run(capsys, *words, method=method)
            assert code == 0, output
            kept.append(json.loads(Path(out, "subset.json").read_text()))
        assert server.asked
    assert kept[0] == kept[1]


def test_a_server_without_logprobs(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Plan(logprobs=False)) as server:
        code, output = run(capsys, "--backend", "openai", "--url", server.url)
    assert code == 2 and server.url in output and "--set score=generate" in output


def config(**values: Any) -> RunRequest:
    return combine({}, {"pool": "p", "method": "m", "budget": "5", **values})


def test_another_backend_ignores_the_server_of_the_config_file() -> None:
    file = {"backend": "openai", "url": URL, "model": "m", "max_requests": 5, "seed": 3}
    result = combine(file, {"backend": "hf"})
    assert (result.backend, result.url, result.model, result.max_requests, result.seed) == (
        "hf",
        None,
        None,
        None,
        3,
    )
    assert combine(file, {"model": "n"}).model == "n"


def test_numbers_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("max_cost: 3\nprice_in: 0.5\nconcurrency: 4\n")
    assert read("c.yaml") == {"max_cost": 3.0, "price_in": 0.5, "concurrency": 4}
    for wrong in ("max_cost: much", "max_cost: true", "concurrency: 1.5"):
        (tmp_path / "c.yaml").write_text(wrong)
        with pytest.raises(ConfigError, match="expected a"):
            read("c.yaml")


def test_limits_without_backend_are_for_a_served_role() -> None:
    assert config(settings=None, max_requests=5, model=f"{URL}#m").max_requests == 5
    assert combine({"settings": {"teacher": f"{URL}#m"}}, {"max_requests": 5}).max_requests == 5
