"""vLLM itself, without a server and as one, against transformers on the same tiny model.

vLLM needs an environment of its own: `THRESHER_VLLM_PYTHON` is the Python of one
(`make test-vllm` installs one).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import thresher
from tests.backends.openai.asked_rows import collect
from tests.openai_server import Real
from tests.picture_rows import ROWS, Pictures
from tests.tiny_models import build
from tests.vllm_numbers import AFTER, QUERIES, SHOWN, numbers
from thresher.backends import resolve
from thresher.backends.openai.image_uris import ImageURIs
from thresher.backends.openai.messages import messages
from thresher.backends.openai.options import ServerOptions
from thresher.backends.openai.resolve import resolve_embedder
from thresher.backends.openai.row_parts import Part, part_of, text_only
from thresher.errors import ServerError
from thresher.signals.query import judge_prompt

PYTHON = os.environ.get("THRESHER_VLLM_PYTHON", "")
ROOT = Path(__file__).parents[3]
# the image processors differ (Pillow here, torchvision in vLLM), and so do the kernels
NATS = 0.02
STARTS = 600  # seconds that vLLM may take to start on a busy machine
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="THRESHER_VLLM_PYTHON names no Python with vLLM"),
]


@pytest.fixture(scope="module")
def folder() -> Path:
    """Larger than the other tiny models: vLLM's kernels take heads of at least 32 numbers."""
    return build("qwen2_5_vl", size="small")


@pytest.fixture(scope="module")
def want(folder: Path) -> dict[str, list[object]]:
    return numbers(resolve(str(folder), device="cpu", dtype="float32").open())


def environment() -> dict[str, str]:
    """Of a small engine on a CPU."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }


def test_offline_engine(folder: Path, want: dict[str, list[object]], tmp_path: Path) -> None:
    out = tmp_path / "numbers.json"
    command = [PYTHON, "-m", "tests.vllm_numbers", str(folder), str(out)]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=2 * STARTS
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    got = json.loads(out.read_text(encoding="utf-8"))
    assert got.keys() == want.keys()
    for name, values in want.items():
        if isinstance(np.asarray(values).flat[0], np.floating):
            np.testing.assert_allclose(got[name], values, atol=NATS, err_msg=name)
        else:
            assert got[name] == values, name


@pytest.fixture(scope="module")
def url(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A vLLM server."""
    with serving_vllm(folder, tmp_path_factory.mktemp("vllm")) as address:
        yield address


@pytest.fixture(scope="module")
def pooling_url(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A vLLM server that gives embeddings."""
    with serving_vllm(folder, tmp_path_factory.mktemp("pooling"), "--runner", "pooling") as address:
        yield address


@contextlib.contextmanager
def serving_vllm(folder: Path, out: Path, *more: str) -> Iterator[str]:
    """The URL of a vLLM server, which is ended with the block.

    Arguments:
        folder: of the model.
        out: for its log.
        more: further words of its command.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--model", str(folder), "--served-model-name", "m", "--dtype", "float32"]
    words += ["--enforce-eager", "--host", "127.0.0.1", "--port", str(port), *more]
    log = out / "server.log"
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", *words]
    with log.open("wb") as file:
        server = subprocess.Popen(command, env=environment(), stdout=file, stderr=file)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + STARTS
    try:
        while not answers(f"{address}/health"):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(1)
        yield f"{address}/v1#m"
    finally:
        server.terminate()
        server.wait(60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def test_server(url: str, want: dict[str, list[object]]) -> None:
    backend = resolve(url, server=ServerOptions(timeout=300.0)).open()
    pool = Pictures()
    loss, errors = collect(backend.answer_loss(ROWS, pool), len(ROWS))
    assert errors == [""] * len(ROWS)
    np.testing.assert_allclose(loss["nll"], want["loss nll"], atol=NATS)
    assert loss["tokens"].tolist() == want["loss tokens"]
    assert loss["greedy_match"].tolist() == want["loss greedy_match"]
    shot, _ = collect(backend.one_shot(AFTER, SHOWN, pool), len(AFTER))
    np.testing.assert_allclose(shot["nll"], want["one-shot nll"], atol=NATS)
    text, _ = collect(backend.generate(ROWS, pool, 8), len(ROWS))
    # vLLM leaves out bytes of a character whose end is missing, which random weights write
    known = [str(t).rstrip("\ufffd") for t in want["generate text"]]
    assert [str(t).rstrip("\ufffd") for t in text["text"]] == known
    prompts = [judge_prompt(row, "") for row in ROWS]
    asked, _ = collect(backend.ask(prompts, QUERIES[:2], pool), len(ROWS))
    assert backend.client.is_vllm
    tokens = backend._first_tokens.ids(QUERIES[0].answers)
    assert tokens is not None and len(set(tokens)) == len(tokens)
    # of random weights few answers are among the 20 tokens; those that are have their numbers
    named = np.isfinite(asked["logprob"])
    exact = np.asarray(want["ask logprob"])[:, : asked["logprob"].shape[1]]
    np.testing.assert_allclose(asked["logprob"][named], exact[named], atol=NATS)
    assert (exact[~named] < np.log(1 / 20)).all()


PARTS: tuple[Part, ...] = ("question", "answer", "image", "all")


@pytest.mark.parametrize("texts", [False, True])
def test_embeddings(pooling_url: str, folder: Path, texts: bool) -> None:
    """vLLM gives the last layer's state of the last token, of texts and images as transformers
    does."""
    backend = resolve_embedder(pooling_url, ServerOptions(timeout=300.0), texts).open()
    backend.check()
    pool, model = Pictures(), Real(folder)
    found, errors = collect(backend.embed_parts(ROWS, pool, PARTS), len(ROWS))
    assert errors == [""] * len(ROWS)
    uris = ImageURIs(pool, ServerOptions().image_side)
    for part in PARTS:
        for i, row in enumerate(ROWS):
            sent = part_of(row, part)
            content = (
                text_only(row, part)
                if texts
                else None
                if sent is None
                else messages(sent, uris.uri)
            )
            if content is None:
                assert not found[part][i].any()
                continue
            want = np.array(model.embed(content))
            assert found[part][i] @ want / np.linalg.norm(want) > 0.999, (part, row.id)


def test_a_server_that_generates_gives_no_embeddings(url: str) -> None:
    with pytest.raises(ServerError, match="--runner pooling"):
        resolve_embedder(url, ServerOptions(timeout=300.0), False).open().check()


def test_winnow_without_weights_here(
    url: str,
    pooling_url: str,
    tiny_pool: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))
    result = thresher.select(
        str(tiny_pool),
        method="winnow",
        budget="4",
        settings={"guard": "off", "trust": "base"},
        images=str(tiny_pool.parent / "images"),
        model=url,
        embedder=pooling_url,
        timeout=300.0,
    )
    assert len(result) == 4
