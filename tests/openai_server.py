"""An OpenAI-compatible test server on loopback with answers in vLLM's format, which can fail on
demand.

    python -m tests.openai_server --port 0 --model demo --fail 0.3

prints its URL (`http://127.0.0.1:PORT/v1`) and serves until it is ended. `--model`: `scripted`
(answers drawn from a hash of the question, instant), `demo`, `tiny:NAME` (see tests/tiny_models.py)
or a model folder. In tests: `with serving(Plan()) as server`, which counts and remembers what it
was asked. Needs fastapi and uvicorn.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import io
import json
import math
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image

WAYS = ("429", "429-after", "500", "hang", "truncated", "no-logprobs", "dropped")


@dataclass
class Plan:
    """How to behave. `fail`: share of chat requests that fail in one of `ways`, drawn by `seed` and
    the request's number;
    `exactly`: what happens to certain requests (0 = the first), "ok" included. `refuse`: a text
    that gets HTTP 400;
    `breaks`: one that gets HTTP 500 with words of its own, and `breaks_mutely`: one that gets a
    bare HTTP 500.
    """

    name: str = "scripted"
    model: str = "scripted"
    fail: float = 0.0
    ways: tuple[str, ...] = WAYS
    seed: int = 0
    exactly: dict[int, str] = field(default_factory=dict)
    hang: float = 5.0  # seconds
    slow: float = 0.0  # seconds of every answer
    key: str = ""
    refuse: str = ""
    breaks: str = ""
    breaks_mutely: str = ""
    top: int = 20  # likeliest tokens allowed
    length: str = "max_tokens"  # "max_completion_tokens": the other name is refused
    logprobs: bool = True
    several: bool = True  # supports `n`
    prompt_logprobs: bool = True  # of a real model; False: the parameter is ignored
    tokenize: bool = True  # of a real model: /tokenize, and tokens by their ids if asked for
    unknown: str = ""  # a parameter that is refused
    context: int = 10**9  # tokens of a prompt, beyond which it is refused in vLLM's words
    usage: bool = True
    models: tuple[str, ...] = ()  # default: (name,)
    embeds: str = ""  # "": no embeddings; "texts": of texts; "messages": of messages, too
    sees: bool = True  # embeds messages with images
    vectors: dict[str, Any] = field(default_factory=dict)  # text that is in an input -> its vector

    def fate(self, number: int) -> str:
        drawn = random.Random(f"{self.seed}|{number}")
        return self.exactly.get(
            number, drawn.choice(self.ways) if drawn.random() < self.fail else "ok"
        )


@dataclass
class Server:
    """A running one. `asked`: (fate, text of the last message, whole body) of every chat request,
    in order; `embedded`: the same of every request for an embedding."""

    plan: Plan
    url: str = ""
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    embedded: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    sent_keys: list[str | None] = field(default_factory=list)

    @property
    def answered(self) -> Counter[str]:
        """Question -> times that it got a good answer."""
        return Counter(text for fate, text, _ in self.asked if fate == "ok")


def text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(p.get("text", "") for p in content)


# ---------------------------------------------------------------------------------------- the model


class Scripted:
    """Tokens and texts from a hash of the messages and images."""

    TOKENS = (
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "Yes",
        "No",
        " Yes",
        "A",
        "B",
        "C",
        "D",
        "The",
        "Maybe",
        "I",
        "It",
    )

    def first(
        self, messages: list[dict[str, Any]], temperature: float, as_ids: bool = False
    ) -> list[tuple[str, float]]:
        drawn = random.Random(json.dumps(messages))
        weights = [drawn.expovariate(1.0) for _ in self.TOKENS]
        return [(t, math.log(w / sum(weights))) for t, w in zip(self.TOKENS, weights, strict=True)]

    def write(
        self, messages: list[dict[str, Any]], length: int, temperature: float, seed: int
    ) -> tuple[str, int, bool]:
        salt = f"{temperature}|{seed}" if temperature else ""
        words = hashlib.sha256((json.dumps(messages) + salt).encode()).hexdigest()[:40]
        texts = [words[i : i + 8] for i in range(0, 40, 8)][:length]
        return " ".join(texts) + " ", len(texts), length >= 5

    def embed(self, content: Any) -> list[float]:
        """16 numbers, drawn by a hash of the whole content."""
        drawn = random.Random(json.dumps(content))
        return [drawn.gauss(0, 3) for _ in range(16)]


class Real:
    """A transformers model under its own processor and chat template, one request at a time."""

    def __init__(self, folder: Path) -> None:
        import torch
        import transformers

        from thresher.backends.hf.processor import load_processor

        self.torch = torch
        torch.set_num_threads(1)
        self.processor, _ = load_processor(folder)
        self.model = transformers.AutoModelForImageTextToText.from_pretrained(
            folder, dtype=torch.float32
        ).eval()

    def _inputs(self, messages: list[dict[str, Any]], **settings: Any) -> Any:
        images, talk = [], []
        for message in messages:
            content = message["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else []
            for part in content if not parts else []:
                if part["type"] == "image_url":
                    raw = base64.b64decode(part["image_url"]["url"].partition("base64,")[2])
                    images.append(Image.open(io.BytesIO(raw)).convert("RGB"))
                    parts.append({"type": "image"})
                else:
                    parts.append(part)
            talk.append({"role": message["role"], "content": parts})
        text = self.processor.apply_chat_template(
            talk, tokenize=False, **{"add_generation_prompt": True, **settings}
        )
        return self.processor(text=text, images=images or None, return_tensors="pt")

    def prompt(
        self, messages: list[dict[str, Any]], settings: dict[str, Any]
    ) -> tuple[list[Any], bool]:
        """vLLM's `prompt_logprobs=0` of the prompt, and whether the model stops right after it."""
        inputs = self._inputs(messages, **settings)
        ids = inputs["input_ids"][0].tolist()
        with self.torch.inference_mode():
            logits = self.model(**inputs).logits[0].float()
        found = logits.log_softmax(-1)
        entries: list[Any] = [None]
        for p, token in enumerate(ids[1:]):
            value = found[p, token]
            entry = {
                "logprob": float(value),
                "rank": int((found[p] >= value).sum()),
                "decoded_token": self.processor.tokenizer.decode([token]),
            }
            entries.append({str(token): entry})
        return entries, int(logits[-1].argmax()) in self._ends()

    def tokenize(self, body: dict[str, Any]) -> list[int]:
        """vLLM's `/tokenize`, of a text or of messages without images."""
        if "prompt" in body:
            special = body.get("add_special_tokens", True)
            return list(
                self.processor.tokenizer(body["prompt"], add_special_tokens=special).input_ids
            )
        names = ("add_generation_prompt", "continue_final_message")
        settings = {name: body[name] for name in names if name in body}
        return list(self._inputs(body["messages"], **settings)["input_ids"][0].tolist())

    def first(
        self, messages: list[dict[str, Any]], temperature: float, as_ids: bool = False
    ) -> list[tuple[str, float]]:
        with self.torch.inference_mode():
            logits = self.model(**self._inputs(messages)).logits[0, -1].float()
        found = logits.log_softmax(-1)
        top = found.topk(20)
        decode = self.processor.tokenizer.decode
        return [
            (f"token_id:{i}" if as_ids else decode([i]), v)
            for i, v in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]

    def write(
        self, messages: list[dict[str, Any]], length: int, temperature: float, seed: int
    ) -> tuple[str, int, bool]:
        inputs = self._inputs(messages)
        drawn = (
            {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        )
        with self.torch.inference_mode(), self.torch.random.fork_rng(devices=[]):
            self.torch.manual_seed(seed)
            ids = self.model.generate(**inputs, max_new_tokens=length, **drawn)[
                0, inputs["input_ids"].shape[1] :
            ]
        ended = bool(len(ids)) and int(ids[-1]) in self._ends()
        return self.processor.tokenizer.decode(ids, skip_special_tokens=True), len(ids), ended

    def embed(self, content: Any) -> list[float]:
        """The last state of the last token, as vLLM's pooling runner gives it."""
        inputs = (
            self.processor.tokenizer(content, return_tensors="pt")
            if isinstance(content, str)
            else self._inputs(content, add_generation_prompt=False)
        )
        with self.torch.inference_mode():
            states = self.model(**inputs, output_hidden_states=True).hidden_states[-1]
        found: list[float] = states[0, -1].float().tolist()
        return found

    def _ends(self) -> list[int]:
        given = self.model.generation_config.eos_token_id
        return list(given) if isinstance(given, (list, tuple)) else [given]


def model_of(plan: Plan) -> Any:
    if plan.model == "scripted":
        return Scripted()
    if plan.model == "demo":
        import thresher.demo

        return Real(Path(str(thresher.demo.__file__)).parent / "model")
    if plan.model.startswith("tiny:"):
        from tests.tiny_models import build

        return Real(build(plan.model.removeprefix("tiny:")))
    return Real(Path(plan.model))


# --------------------------------------------------------------------------------------- the server


def app_of(server: Server) -> FastAPI:
    plan, app, one_at_a_time = server.plan, FastAPI(), threading.Lock()
    model = model_of(plan)

    def refusal(code: int, message: str, **headers: str) -> Response:
        error = {"message": message, "type": "BadRequestError", "param": None, "code": code}
        return JSONResponse({"error": error}, code, headers)

    @app.get("/counts")
    def counts() -> Any:
        return {
            "requests": len(server.asked),
            "fates": Counter(fate for fate, _, _ in server.asked),
        }

    @app.get("/v1/models")
    def models() -> Any:
        names = plan.models or (plan.name,)
        return {
            "object": "list",
            "data": [{"id": n, "object": "model", "owned_by": "vllm"} for n in names],
        }

    @app.post("/tokenize")
    async def tokenize(request: Request) -> Response:
        if not (plan.tokenize and isinstance(model, Real)):
            return Response('{"detail":"Not Found"}', 404)
        body = json.loads(await request.body())
        with one_at_a_time:
            tokens = model.tokenize(body)
        return JSONResponse({"count": len(tokens), "max_model_len": plan.context, "tokens": tokens})

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = json.loads(await request.body())
        text, number = text_of(body["messages"][-1]), len(server.asked)
        fate = plan.fate(number)
        server.sent_keys.append(request.headers.get("authorization"))
        output = refused(body, text) or (
            refusal(400, f"Unsupported parameter: use '{plan.length}' instead of 'max_tokens'.")
            if plan.length not in body
            else refusal(
                400,
                f"Requested sample logprobs of {body['top_logprobs']}, which is greater than max "
                f"allowed: {plan.top}",
            )
            if body.get("top_logprobs", 0) > plan.top
            else refusal(400, f"Unrecognized request argument supplied: {plan.unknown}")
            if plan.unknown in body
            else None
        )
        server.asked.append((fate if output is None else "refused", text, body))
        return output or await fated(fate, text, lambda: completion(body, fate))

    def refused(body: dict[str, Any], text: str) -> Response | None:
        """The refusal of a key, a model or a text."""
        if plan.key and server.sent_keys[-1] != f"Bearer {plan.key}":
            return refusal(401, f"Incorrect API key provided: {server.sent_keys[-1]}")
        if body["model"] not in (plan.models or (plan.name,)):
            return refusal(404, f"The model `{body['model']}` does not exist.")
        if plan.refuse and plan.refuse in text:
            message = f"Bad request: {plan.refuse!r} is not served to {server.sent_keys[-1]}."
            return refusal(400, message)
        return None

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        if not plan.embeds:
            return Response('{"detail":"Not Found"}', 404)
        body = json.loads(await request.body())
        server.sent_keys.append(request.headers.get("authorization"))
        content = body.get("messages", body.get("input"))
        text = content if isinstance(content, str) else text_of(content[-1])
        fate = plan.fate(len(server.embedded))
        output = refused(body, text)
        if output is None and "messages" in body and plan.embeds == "texts":
            output = refusal(422, "Field required: input")
        if output is None and not plan.sees and "image_url" in json.dumps(body):
            output = refusal(400, f"{plan.name} is not a multimodal model")
        server.embedded.append((fate if output is None else "refused", text, body))
        return output or await fated(fate, text, lambda: embedding(content, text))

    def embedding(content: Any, text: str) -> dict[str, Any]:
        with one_at_a_time:
            vector = next((v for part, v in plan.vectors.items() if part in text), None)
            if vector is None:
                vector = model.embed(content)
        words = len(text.split())
        return {
            "object": "list",
            "model": plan.name,
            "data": [{"index": 0, "object": "embedding", "embedding": vector}],
            **({"usage": {"prompt_tokens": words, "total_tokens": words}} if plan.usage else {}),
        }

    async def fated(fate: str, text: str, answer: Callable[[], dict[str, Any]]) -> Response:
        """The answer, or what the plan does in its place."""
        if plan.slow:
            await asyncio.sleep(plan.slow)
        if plan.breaks and plan.breaks in text:
            return refusal(500, f"{plan.breaks!r} cannot be processed")
        if plan.breaks_mutely and plan.breaks_mutely in text:
            return Response("Internal Server Error", 500)
        if fate == "429":
            return refusal(429, "Too many requests")
        if fate == "429-after":
            return refusal(429, "Too many requests", **{"Retry-After": "0"})
        if fate == "500":
            return Response("<html>Internal Server Error</html>", 500)
        if fate == "hang":
            await asyncio.sleep(plan.hang)
        try:
            found = await asyncio.to_thread(answer)
        except ValueError as error:
            return refusal(400, str(error))
        raw = json.dumps(found).encode()
        if fate == "truncated":
            return Response(raw[: len(raw) // 2], media_type="application/json")
        if fate == "dropped":
            return StreamingResponse(broken(raw), headers={"Content-Length": str(len(raw))})
        return Response(raw, media_type="application/json")

    def completion(body: dict[str, Any], fate: str) -> dict[str, Any]:
        length, heat = body[plan.length], body.get("temperature", 1.0)
        likeliest = None
        with one_at_a_time:
            if "prompt_logprobs" in body and plan.prompt_logprobs and isinstance(model, Real):
                names = ("add_generation_prompt", "continue_final_message")
                settings = {name: body[name] for name in names if name in body}
                entries, stops = model.prompt(body["messages"], settings)
                if len(entries) >= plan.context:
                    raise ValueError(
                        f"This model's maximum context length is {plan.context} tokens. However, "
                        f"your request has {len(entries)} input tokens."
                    )
                return {
                    "object": "chat.completion",
                    "model": plan.name,
                    "choices": [
                        {
                            "index": 0,
                            "message": {"role": "assistant", "content": "" if stops else "x"},
                            "finish_reason": "stop" if stops else "length",
                        }
                    ],
                    "usage": {"prompt_tokens": len(entries), "completion_tokens": 1},
                    "prompt_logprobs": entries,
                }
            if body.get("logprobs") and plan.logprobs and fate != "no-logprobs":
                as_ids = plan.tokenize and bool(body.get("return_tokens_as_token_ids"))
                tokens = model.first(body["messages"], heat, as_ids)
                best = sorted(tokens, key=lambda pair: -pair[1])[: body.get("top_logprobs", 0)]
                entries = [{"token": t, "logprob": v, "bytes": list(t.encode())} for t, v in best]
                likeliest = {"content": [{**entries[0], "top_logprobs": entries}]}
            many = body.get("n", 1) if plan.several else 1
            texts = [
                model.write(body["messages"], length, heat, body.get("seed", 0) + k)
                for k in range(many)
            ]
        choices = [
            {
                "index": k,
                "message": {"role": "assistant", "content": text},
                "logprobs": likeliest,
                "finish_reason": "stop" if ended else "length",
            }
            for k, (text, _, ended) in enumerate(texts)
        ]
        words = sum(len(text_of(m).split()) for m in body["messages"])
        spent = sum(tokens for _, tokens, _ in texts)
        usage = {"prompt_tokens": words, "completion_tokens": spent, "total_tokens": words + spent}
        whole = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": plan.name,
        }
        own = {"prompt_logprobs": None} if plan.prompt_logprobs else {}  # vLLM names it always
        return {**whole, "choices": choices, **({"usage": usage} if plan.usage else {}), **own}

    return app


async def broken(raw: bytes) -> Any:
    yield raw[: len(raw) // 2]
    raise ConnectionAbortedError("the server was told to drop this connection")


@contextlib.contextmanager
def serving(plan: Plan, port: int = 0) -> Iterator[Server]:
    """Runs in a thread until the block ends."""
    server = Server(plan)
    listening = socket.create_server(("127.0.0.1", port))
    server.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    config = uvicorn.Config(app_of(server), log_level="critical", timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while not running.started:
            time.sleep(0.01)
        yield server
    finally:
        running.should_exit = True
        thread.join(5)
        listening.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="scripted")
    parser.add_argument("--name", default="")
    parser.add_argument("--fail", type=float, default=0.0, help="share of requests that fail")
    parser.add_argument("--ways", default=",".join(WAYS), help="how they fail, separated by commas")
    parser.add_argument("--exactly", default="", help="fates of certain requests: 0:500,7:hang")
    parser.add_argument("--hang", type=float, default=5.0)
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--key", default="")
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument(
        "--length", default="max_tokens", choices=["max_tokens", "max_completion_tokens"]
    )
    parser.add_argument("--no-logprobs", action="store_true")
    parser.add_argument("--embeds", default="", choices=["", "texts", "messages"])
    given = parser.parse_args()
    exactly = {
        int(n): fate
        for n, _, fate in (word.partition(":") for word in given.exactly.split(",") if word)
    }
    plan = Plan(
        name=given.name or given.model.rsplit("/", 1)[-1],
        model=given.model,
        fail=given.fail,
        ways=tuple(given.ways.split(",")),
        exactly=exactly,
        hang=given.hang,
        slow=given.slow,
        key=given.key,
        top=given.top,
        length=given.length,
        logprobs=not given.no_logprobs,
        embeds=given.embeds,
    )
    with serving(plan, given.port) as server:
        print(server.url, flush=True)  # noqa: T201
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
