"""`--backend vllm`, with a stand-in for vLLM's engine."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.tiny_models import build
from tests.vllm_engine import LLM, Dead, SamplingParams
from thresher import cli
from thresher.backends import resolve
from thresher.backends.hf.backend import HFBackend
from thresher.backends.vllm import arguments
from thresher.backends.vllm.engine import Engine
from thresher.errors import ModelError


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))


@pytest.fixture
def llms() -> list[LLM]:
    """The engines that were started."""
    return []


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch, llms: list[LLM]) -> list[Mapping[str, Any]]:
    """Pretends that vLLM is installed. The arguments of the engines that were started."""
    started: list[Mapping[str, Any]] = []
    module = ModuleType("vllm")
    module.SamplingParams = SamplingParams  # type: ignore[attr-defined]

    def start(where: str, typed: str, arguments: Mapping[str, Any]) -> Engine:
        started.append(arguments)
        llms.append(LLM(Path(where)))
        return Engine(llms[-1], module, (Dead,))

    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(Engine, "start", start)
    return started


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main(list(words))
        code = int(ended.value.code or 0)
    finally:
        captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, " ".join(captured.err.split())


def words_of(pool: Path, command: str = "select", model: str = "") -> list[str]:
    images = str(pool.parent / "images")
    return [command, str(pool), "--images", images, "--model", model or str(build("qwen2_5_vl"))]


def test_the_same_selection_as_with_transformers(
    capsys: pytest.CaptureFixture[str],
    tiny_pool: Path,
    tmp_path: Path,
    engines: list[Mapping[str, Any]],
) -> None:
    method = ["--method", "perplexity", "--budget", "3"]
    for backend in ("hf", "vllm"):
        out = ["--out", str(tmp_path / backend)]
        code, _, err = run(
            capsys,
            *words_of(tiny_pool),
            *method,
            *out,
            "--backend",
            backend,
            "--batch-tokens",
            "512",
        )
        assert code == 0, err
    assert (tmp_path / "hf/subset.json").read_text() == (tmp_path / "vllm/subset.json").read_text()
    assert len(engines) == 1  # scores of transformers are not those of vLLM
    assert engines[0]["enable_prefix_caching"] and engines[0]["max_num_batched_tokens"] == 512
    again = str(tmp_path / "again")
    config = ["--config", str(tmp_path / "vllm" / "run.yaml")]
    code, _, err = run(capsys, "select", *config, "--out", again)
    assert code == 0 and len(engines) == 1, err  # all scores are stored


@pytest.mark.parametrize("method", ["clipper", "mmssr"])
def test_methods_that_need_losses_and_answers(
    method: str,
    capsys: pytest.CaptureFixture[str],
    tiny_pool: Path,
    tmp_path: Path,
    engines: list[Mapping[str, Any]],
) -> None:
    words = ["--method", method, "--budget", "3", "--backend", "vllm", "--force"]
    code, _, err = run(capsys, *words_of(tiny_pool), *words, "--out", str(tmp_path / "out"))
    assert code == 0, err
    assert engines


def test_both_engines_compared(
    capsys: pytest.CaptureFixture[str], tiny_pool: Path, engines: list[Mapping[str, Any]]
) -> None:
    words = ["--backends", "hf,vllm", "--rows", "5", "--json"]
    code, out, err = run(capsys, *words_of(tiny_pool, "verify-backend"), *words)
    assert code == 0, out + err
    found = json.loads(out)
    assert found["backends"] == ["hf", "vllm"] and not found["missing"]
    assert all(n["rows"] and n["max"] < 1e-3 for n in found["numbers"])


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretends that vLLM reads whole numbers and texts."""

    def parse(words: Sequence[str]) -> dict[str, Any]:
        return {k: int(v) if v.isdigit() else v for k, v in arguments.split(words).items()}

    monkeypatch.setattr(arguments, "parse", parse)


@pytest.mark.usefixtures("parsed")
def test_arguments_of_the_engine(
    capsys: pytest.CaptureFixture[str],
    tiny_pool: Path,
    tmp_path: Path,
    engines: list[Mapping[str, Any]],
) -> None:
    words = [*words_of(tiny_pool), "--method", "perplexity", "--budget", "3", "--backend", "vllm"]

    def select(*more: str, expect: int = 0) -> str:
        code, _, err = run(capsys, *words, "--out", str(tmp_path / "out"), *more)
        assert code == expect, err
        return err

    select("--vllm", "tensor_parallel_size=2", "--vllm", "max_model_len=4096")
    assert engines[0]["tensor_parallel_size"] == 2 and engines[0]["max_model_len"] == 4096
    assert engines[0]["limit_mm_per_prompt"] == {"video": 0}
    select("--vllm", "gpu_memory_utilization=0.8")  # the same numbers: the same request and scores
    assert len(engines) == 1
    told = select("--vllm", "quantization=fp8", expect=2)
    assert "it differs in vllm" in told
    select("--vllm", "quantization=fp8", "--overwrite")
    assert len(engines) == 2 and engines[1]["quantization"] == "fp8"
    run_yaml = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())
    assert run_yaml["config"]["vllm"] == ["quantization=fp8"]
    assert run_yaml["model"]["identity"]["engine_arguments"] == "quantization=fp8"
    assert run_yaml["model"]["identity"]["engine"] == "vllm"


@pytest.mark.usefixtures("parsed")
def test_arguments_of_the_engine_that_is_compared(
    capsys: pytest.CaptureFixture[str], tiny_pool: Path, engines: list[Mapping[str, Any]]
) -> None:
    words = [*words_of(tiny_pool, "verify-backend"), "--rows", "5"]
    given = ["--vllm", "block_size=32"]
    code, out, err = run(capsys, *words, "--backends", "hf,vllm", *given)
    assert code == 0, out + err
    assert engines[0]["block_size"] == 32
    code, _, err = run(capsys, *words, "--backends", "hf,openai", *given)
    assert code == 2 and "add vllm to --backends" in err


def test_arguments_of_an_engine_that_is_not_used(
    capsys: pytest.CaptureFixture[str], tiny_pool: Path, tmp_path: Path
) -> None:
    words = [*words_of(tiny_pool), "--method", "perplexity", "--budget", "3"]
    out = ["--out", str(tmp_path / "out")]
    code, _, err = run(capsys, *words, *out, "--vllm", "block_size=32")
    assert code == 2 and "--vllm block_size=32 is an argument of vLLM's engine" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--backends", "vllm"], "expected two of hf, openai, vllm"),
        (["--backends", "hf,hf"], "expected two of hf, openai, vllm"),
        (["--backends", "hf,vllm", "--url", "http://127.0.0.1:1/v1"], "only --backend openai"),
        (["--backends", "hf,vllm", "--served-model", "m"], "is for a server"),
    ],
)
def test_backends_that_cannot_be_compared(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tiny_pool: Path
) -> None:
    code, _, err = run(capsys, *words_of(tiny_pool, "verify-backend", "demo"), *words)
    assert code == 2 and said in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--method winnow", "needs embeddings of the rows, and"),
        ("--method winnow", "runs in vLLM, which gives losses, answers to questions and generated"),
        ("--method winnow --embedder demo --set guard=on", "trains models from the run's own"),
        ("--method visnec", "runs in vLLM"),
        ("--method dics", "runs in vLLM"),
        ("--method mllm_selector", "runs in vLLM"),
        ("--method random --filter 'suspicion<0.9'", "and this model runs in vLLM"),
        (
            "--method perplexity --dedup semantic",
            "this model does not give. Give a model for them with --embedder",
        ),
        ("--method perplexity --device cpu", "runs on the device that the installed vLLM is for"),
        ("--method perplexity --image-pixels ..1000", "and --backend vllm exclude each other"),
        ("--method perplexity --video-frames 4", "and --backend vllm exclude each other"),
        ("--method perplexity --adapter a:B", "and --backend vllm exclude each other"),
        ("--method perplexity --devices 0,1", "distribute their work themselves"),
        ("--method perplexity --engine ray", "distribute their work themselves"),
        ("--method perplexity --url http://127.0.0.1:1/v1", "only --backend openai asks"),
    ],
)
def test_what_vllm_cannot_do_is_refused_before_it_is_started(
    words: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tiny_pool: Path,
    tmp_path: Path,
    engines: list[Mapping[str, Any]],
) -> None:
    given = [word.strip("'") for word in words.split()]
    out = ["--budget", "3", "--out", str(tmp_path / "new")]
    code, _, err = run(capsys, *words_of(tiny_pool), "--backend", "vllm", *given, *out)
    assert code == 2 and said in err, err
    assert not engines and not (tmp_path / "new").exists()


@pytest.mark.parametrize("method", ["winnow", "visnec", "dics", "mllm_selector"])
def test_what_vllm_cannot_do_is_said_before_it_is_asked_for(
    method: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    words = words_of(tmp_path / "no_pool.json", model="demo")
    more = ["--method", method, "--budget", "3", "--out", str(tmp_path / "new")]
    code, _, err = run(capsys, *words, *more, "--backend", "vllm")
    assert code == 2 and "'demo' runs in vLLM" in err and "pip install" not in err


def test_winnow_with_the_embeddings_of_another_model(
    capsys: pytest.CaptureFixture[str],
    tiny_pool: Path,
    tmp_path: Path,
    engines: list[Mapping[str, Any]],
    llms: list[LLM],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """vLLM gives the losses, transformers the embeddings: the same rows as transformers gives. vLLM
    has ended, and given its memory back, when the embeddings are computed."""
    alive: list[int] = []
    read = HFBackend.read

    def watched(*given: Any, **named: Any) -> Any:
        alive.append(sum(not llm.ended for llm in llms))
        return read(*given, **named)

    monkeypatch.setattr(HFBackend, "read", watched)
    settings = ["--method", "winnow", "--budget", "3", "--set", "guard=off", "trust=base"]
    model = str(build("qwen2_5_vl"))
    for backend, more in (("hf", []), ("vllm", ["--embedder", model])):
        words = [*settings, "--backend", backend, *more, "--out", str(tmp_path / backend)]
        words += ["--store", str(tmp_path / f"store of {backend}")]
        alive.clear()
        code, _, err = run(capsys, *words_of(tiny_pool), *words)
        assert code == 0, err
    assert len(engines) == 1 and alive and not any(alive)
    assert (tmp_path / "hf/subset.json").read_text() == (tmp_path / "vllm/subset.json").read_text()


def test_vllm_is_not_installed(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Said before the pool is read."""
    monkeypatch.setitem(sys.modules, "vllm", None)
    words = words_of(tmp_path / "no_pool.json", model="demo")
    more = ["--method", "perplexity", "--budget", "3", "--out", str(tmp_path / "new")]
    code, _, err = run(capsys, *words, *more, "--backend", "vllm")
    assert code == 2
    assert "--model demo is a model that vLLM is to run, which needs vllm" in err
    assert (
        'pip install "thresher[vllm]" in an environment of its own' in err and "no_pool" not in err
    )


def test_lora_adapters_are_refused(tmp_path: Path, engines: list[Mapping[str, Any]]) -> None:
    folder = tmp_path / "adapters"
    folder.mkdir()
    base = str(build("qwen2_5_vl"))
    config = {"base_model_name_or_path": base, "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    with pytest.raises(ModelError, match=r"LoRA adapters, which .* does not take"):
        resolve(str(folder), engine="vllm")


def test_identity(engines: list[Mapping[str, Any]]) -> None:
    folder = str(build("qwen2_5_vl"))
    here, there = resolve(folder, dtype="float32"), resolve(folder, dtype="float32", engine="vllm")
    assert here.identity.engine == "" and there.identity.engine == "vllm"
    assert here.identity.weights == there.identity.weights
    assert there.identity.limit == "runs in vLLM" and there.identity.losses_only
    assert not here.identity.losses_only and not there.identity.served
    assert there.context == here.context and not engines
