"""The adapter of examples/tiny_adapter.py, for a model that is no class of transformers: its
numbers against the module itself, and the commands that run it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from examples.tiny_adapter import END, IMAGE, PATCHES, TinyAdapter, TinyCaptioner, write_model
from typer.testing import CliRunner

from tests.backends.hf.random_rows import Images, ask, collect
from tests.tiny_models import build
from tests.training.colour_pools import pool_of, record
from thresher.backends import resolve
from thresher.backends.adapted import Encoded
from thresher.backends.adapted.backend import AdaptedBackend
from thresher.backends.adapted.resolve import load_class
from thresher.cli import app, main
from thresher.errors import ConfigError, ModelError, NotAModel
from thresher.fingerprint import fingerprint
from thresher.signals.query import Query, judge_prompt
from thresher.testing import check_adapter
from thresher.types import Sample

SPEC = "examples.tiny_adapter:TinyAdapter"
ROWS = [
    ask("What is it?", "A cat, red.", "1"),
    ask("Is ice cold?", "Yes."),
    ask("Which is larger?", "7 of 30", "3", "4"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "captioner"
    write_model(made)
    return made


@pytest.fixture(scope="module")
def backend(folder: Path) -> AdaptedBackend:
    opened = resolve(str(folder), device="cpu", adapter=SPEC).open()
    assert isinstance(opened, AdaptedBackend)
    return opened


class Reference:
    """The module itself on byte strings written out here."""

    def __init__(self, folder: Path) -> None:
        self.model = TinyCaptioner()
        self.model.load_state_dict(torch.load(folder / "model.pt"))

    def nats(self, prompt: Sequence[int], answer: Sequence[int], images: Sequence[Any]) -> list:
        ids = torch.tensor([*prompt, *answer])
        small = [np.asarray(im.resize((4, 4)), np.float32).reshape(-1, 3) / 255 for im in images]
        patches = torch.from_numpy(np.concatenate(small) if small else np.zeros((0, 3), np.float32))
        with torch.no_grad():
            logprob = self.model(ids, patches).log_softmax(-1)
        first = len(prompt)
        return [-float(logprob[first + k - 1, t]) for k, t in enumerate(answer)]


def prompt_of(row: Sample, extra: str = "") -> list[int]:
    text = row.turns[0].text.replace("<image>\n", "").encode()
    images = [IMAGE] * PATCHES * len(row.images)
    return [*b"user: ", *images, *text, *extra.encode(), END, *b"assistant: "]


def pictures(row: Sample) -> list[Any]:
    return [Images().load_image(ref) for ref in row.images]


def test_losses_are_those_of_the_module(folder: Path, backend: AdaptedBackend) -> None:
    values, errors = collect(backend.answer_loss(ROWS, Images()), len(ROWS))
    assert not errors
    for i, row in enumerate(ROWS):
        answer = row.turns[1].text.encode()
        want = Reference(folder).nats(prompt_of(row), list(answer), pictures(row))
        assert values["nll"][i] == pytest.approx(np.mean(want), abs=1e-5)
        assert values["tokens"][i] == len(answer)


def test_a_demonstration_and_candidates_run_with_the_whole_row(
    folder: Path, backend: AdaptedBackend
) -> None:
    demo, query = ROWS[0], ROWS[2]
    values, errors = collect(backend.one_shot([query], [demo], Images()), 1)
    assert not errors
    front = [*prompt_of(demo), *demo.turns[1].text.encode(), END]
    images = pictures(demo) + pictures(query)
    answer = list(query.turns[1].text.encode())
    want = Reference(folder).nats([*front, *prompt_of(query)], answer, images)
    assert values["nll"][0] == pytest.approx(np.mean(want), abs=1e-5)
    texts = ("7", "7 of 30", "No.")
    totals = [
        -sum(Reference(folder).nats(prompt_of(query), [*t.encode(), END], pictures(query)))
        for t in texts
    ]
    values, errors = collect(backend.choice([query], [texts], Images()), 1)
    assert not errors and values["picked"][0] == int(np.argmax(totals))
    assert values["margin"][0] == pytest.approx(np.diff(sorted(totals))[-1], abs=1e-4)


def test_questions(folder: Path, backend: AdaptedBackend) -> None:
    row = judge_prompt(ROWS[0], "")
    queries = (
        Query("\nHow good, 0 to 5?", ("0", "3")),
        Query("\nWhich?", ("short", "yes/no"), whole=True, end=False),
    )
    (piece,) = backend.ask([row], queries, Images())
    assert piece.errors == [""]
    want = []
    for query in queries:
        for answer in query.answers:
            nats = Reference(folder).nats(
                prompt_of(row, query.text), list(answer.encode()), pictures(row)
            )
            want.append(-sum(nats) if query.whole else -nats[0])
    np.testing.assert_allclose(piece.values["logprob"][0], want, atol=1e-4)
    clash = Query("\nWhich?", ("short", "style"))
    (piece,) = backend.ask([row], [clash], Images())
    assert "share their first token" in piece.errors[0]


def test_generated_text_is_greedy(folder: Path, backend: AdaptedBackend) -> None:
    values, errors = collect(backend.generate(ROWS, Images(), 5), len(ROWS))
    assert not errors
    model = Reference(folder).model
    for i, row in enumerate(ROWS):
        ids = prompt_of(row)
        small = [
            np.asarray(im.resize((4, 4)), np.float32).reshape(-1, 3) / 255 for im in pictures(row)
        ]
        patches = torch.from_numpy(np.concatenate([*small, np.zeros((0, 3), np.float32)]))
        new: list[int] = []
        while len(new) < 5 and END not in new:
            new.append(int(model(torch.tensor([*ids, *new]), patches)[-1].argmax()))
        assert values["finished"][i] == (END in new)
        assert values["text"][i] == TinyAdapter.decode(None, new).strip()  # type: ignore[arg-type]


def test_rows_that_fail_do_not_stop_the_others(backend: AdaptedBackend) -> None:
    rows = [ROWS[0], ask("What is it?", "A cat.", "broken"), ask("x" * 5000, "Yes."), ROWS[1]]
    _, errors = collect(backend.answer_loss(rows, Images()), len(rows))
    assert sorted(errors) == [1, 2]
    assert "truncated" in errors[1] and "too long" in errors[2]


def test_the_class_and_its_version_are_part_of_the_identity(folder: Path) -> None:
    model = resolve(str(folder), device="cpu", adapter=SPEC).identity
    assert model.adapter == f"{SPEC}@1" and model.architecture == "tiny_captioner"

    other = type(model)(**{**vars(model), "adapter": f"{SPEC}@2"})
    assert fingerprint(model) != fingerprint(other)


class Wrong(TinyAdapter):
    """Fails in ways that a user's code may."""

    def encode(self, messages: Any, images: Any, prompt: bool) -> Encoded:
        return Encoded([1, 2, 3], [(1, 9)])


class Raises(TinyAdapter):
    def logits(self, row: Encoded) -> torch.Tensor:
        raise KeyError("patches")


def test_a_faulty_adapter_is_one_sentence(folder: Path) -> None:
    wrong = AdaptedBackend(Wrong(folder, "cpu", torch.float32), "m:Wrong")
    with pytest.raises(ModelError, match="m:Wrong gives an answer at tokens 1 to 9 of 3"):
        list(wrong.answer_loss(ROWS, Images()))
    raises = AdaptedBackend(Raises(folder, "cpu", torch.float32), "m:Raises")
    with pytest.raises(ModelError, match=r"logits of the adapter m:Raises raised KeyError"):
        list(raises.answer_loss(ROWS, Images()))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"encode": lambda *_: None}, "encoded row of type NoneType (None); an Encoded is"),
        ({"encode": lambda *_: Encoded(["a", "b"], [(1, 2)])}, "ids of type list (['a', 'b'])"),
        ({"encode": lambda *_: Encoded([1, 2], [1])}, "answer of type int (1); a pair"),
        ({"encode": lambda *_: Encoded([1, 2], [])}, "0 answers for a conversation with 1 assist"),
        ({"logits": lambda row: np.zeros((len(row.ids), 9))}, "logits of type ndarray"),
        ({"logits": lambda row: torch.zeros(len(row.ids), 9).int()}, "logits of type Tensor"),
        ({"logits": lambda row: torch.zeros(len(row.ids))}, "logits of ["),
        ({"logits": lambda row: torch.zeros(len(row.ids), 9)}, "logits for 9 tokens, and an answ"),
        ({"generate": lambda row, most: None}, "new tokens of type NoneType"),
        ({"generate": lambda row, most: [[1]]}, "new tokens of type list ([[1]])"),
        ({"decode": lambda ids: None}, "decoded text of type NoneType"),
        ({"stop_ids": 256}, "stop_ids of type int (256); a sequence of token ids is expected"),
        ({"stop_ids": {None}}, "stop_ids of type set ({None})"),
        ({"context": None}, "context of type NoneType (None); a number of tokens"),
    ],
)
def test_what_an_adapter_gives_is_checked(
    wrong: dict[str, Any], message: str, folder: Path
) -> None:
    adapter = TinyAdapter(folder, "cpu", torch.float32)
    vars(adapter).update(wrong)

    def run() -> None:
        backend = AdaptedBackend(adapter, "m:Wrong")
        list(backend.answer_loss(ROWS[1:2], Images()))
        list(backend.generate(ROWS[1:2], Images(), 3))

    with pytest.raises(ModelError, match=re.escape(f"The adapter m:Wrong gives {message}")):
        run()


def test_arrays_and_tensors_of_ids_will_do(folder: Path, backend: AdaptedBackend) -> None:
    adapter = TinyAdapter(folder, "cpu", torch.float32)
    encode = adapter.encode

    def as_tensor(*given: Any) -> Encoded:
        row = encode(*given)
        answers = np.array(row.answers).reshape(-1, 2)
        return Encoded(torch.tensor(row.ids), answers, row.inputs)  # type: ignore[arg-type]

    vars(adapter).update(encode=as_tensor, stop_ids=[END])
    tensors = AdaptedBackend(adapter, "m:Tensors")
    found = [collect(b.answer_loss(ROWS, Images()), len(ROWS)) for b in (tensors, backend)]
    assert not found[0][1]
    np.testing.assert_array_equal(found[0][0]["nll"], found[1][0]["nll"])


def test_generation_from_nan_fails(folder: Path) -> None:
    adapter = TinyAdapter(folder, "cpu", torch.float32)
    vars(adapter).update(logits=lambda row: torch.full((len(row.ids), 258), torch.nan))
    _, errors = collect(AdaptedBackend(adapter, "m:NaN").generate(ROWS[:1], Images(), 3), 1)
    assert errors == {0: "not-finite: the logits are not numbers (NaN)"}


class Unversioned(TinyAdapter):
    version = "1.0"  # type: ignore[assignment]


class Exits(TinyAdapter):
    def __init__(self, folder: Path, device: str, dtype: torch.dtype) -> None:
        raise SystemExit(3)


def test_an_adapter_that_ends_the_process_is_an_error(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot open .*: SystemExit: 3"):
        resolve(str(folder), device="cpu", adapter=f"{__name__}:Exits").open()


class Silent(TinyAdapter):
    """Raises exceptions that have no message."""

    error: BaseException = StopIteration()

    def encode(self, messages: Any, images: Any, prompt: bool) -> Encoded:
        if "ice" in str(messages[0].parts):
            raise self.error
        return super().encode(messages, images, prompt)


def test_what_an_adapter_raises_without_a_message_is_named_by_its_class(folder: Path) -> None:
    adapter = Silent(folder, "cpu", torch.float32)
    with pytest.raises(ModelError, match=r"of the adapter m:Silent raised StopIteration\. Check"):
        list(AdaptedBackend(adapter, "m:Silent").answer_loss(ROWS, Images()))
    adapter.error = ValueError()
    found = AdaptedBackend(adapter, "m:Silent").answer_loss(ROWS, Images())
    _, errors = collect(found, len(ROWS))
    assert errors == {1: "adapter: encode of m:Silent raised ValueError"}


@pytest.mark.parametrize(
    ("reason", "stored"),
    [
        ("the row has a table", "adapter: the row has a table"),
        ("table: too wide", "adapter: table: too wide"),
        ("too long: 9 tokens", "too long: 9 tokens"),
        ("too long", "adapter: too long"),
        ("no-answer: empty", "no-answer: empty"),
        ("it is\nlong.", "adapter: it is"),
    ],
)
def test_the_reasons_of_an_adapter_have_a_kind(folder: Path, reason: str, stored: str) -> None:
    adapter = Silent(folder, "cpu", torch.float32)
    adapter.error = ValueError(reason)
    found = AdaptedBackend(adapter, "m:Silent").answer_loss(ROWS, Images())
    _, errors = collect(found, len(ROWS))
    assert errors == {1: stored}


class ShowsBar(TinyAdapter):
    """Reports its progress as transformers does when it loads weights."""

    def __init__(self, folder: Path, device: str, dtype: torch.dtype) -> None:
        from transformers.utils.logging import tqdm

        for _ in tqdm(range(3), desc="Loading weights"):
            pass
        super().__init__(folder, device, dtype)


def test_transformers_prints_no_progress_bar(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    transformers.utils.logging.enable_progress_bar()
    resolve(str(folder), device="cpu", adapter=f"{__name__}:ShowsBar").open()
    assert capfd.readouterr().err == ""


class Unopened(TinyAdapter):
    """Fails as transformers does, with a list of all it knows."""

    def __init__(self, folder: Path, device: str, dtype: torch.dtype) -> None:
        raise ValueError("Unrecognized configuration class.\nModel type should be one of A, B.")


def test_an_adapter_that_cannot_open_the_model_is_one_sentence(folder: Path) -> None:
    handle = resolve(str(folder), device="cpu", adapter=f"{__name__}:Unopened")
    with pytest.raises(ModelError, match=r": ValueError: Unrecognized configuration class\.$"):
        handle.open()


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("tiny_adapter", "expected module:Class"),
        ("no_such_module:A", "no module no_such_module"),
        ("tiny_adapter.py:TinyAdapter", "a module is named without .py: tiny_adapter:TinyAdapter"),
        ("examples.tiny_adapter:Tiny", "has no class Tiny"),
        ("examples.tiny_adapter:TinyCaptioner", "no subclass"),
        (f"{__name__}:Unversioned", "the version of Unversioned is '1.0'; a whole number"),
        ("thresher.backends.adapted:Adapter", "lacks __init__, decode, encode, logits"),
    ],
)
def test_a_wrong_name_says_what_is_expected(spec: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as raised:
        load_class(spec)
    assert raised.value.option == "adapter"


def test_without_an_adapter_the_message_names_the_option(folder: Path) -> None:
    with pytest.raises(NotAModel, match="needs an adapter"):
        resolve(str(folder))


@pytest.mark.parametrize("method", ["winnow", "visnec", "dics", "mllm_selector"])
def test_methods_that_need_more_are_refused_before_a_row_is_scored(
    method: str, folder: Path, tmp_path: Path
) -> None:
    pool_of(tmp_path, [record(i) for i in range(8)])
    pool = str(tmp_path / "pool.json")
    more = ["-m", method, "-b", "3", "--store", str(tmp_path / "s"), "-o", str(tmp_path / "o")]
    ended = CliRunner().invoke(
        app, ["select", pool, "--model", str(folder), "--adapter", SPEC, *more]
    )
    assert ended.exit_code == 2, ended.output
    assert f"runs through the adapter {SPEC}" in ended.output


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (["--video-frames", "4"], "--video-frames 4 and --adapter exclude each other: an adapter"),
        (["--image-pixels", "..400"], "--image-pixels ..400 and --adapter exclude each other"),
    ],
)
@pytest.mark.parametrize("command", ["select -m perplexity -b 3 -o out", "evaluate --data"])
def test_options_that_an_adapter_cannot_heed_are_refused(
    option: list[str], reason: str, command: str, folder: Path, tmp_path: Path
) -> None:
    pool_of(tmp_path, [record(i) for i in range(4)])
    words = [*command.split(), str(tmp_path / "pool.json"), "--store", str(tmp_path / "s")]
    ended = CliRunner().invoke(app, [*words, "--model", str(folder), "--adapter", SPEC, *option])
    assert ended.exit_code == 2 and f"Error: {reason}" in ended.output, ended.output


def test_a_method_that_asks_no_model_says_which_options_are_not_used(
    folder: Path, tmp_path: Path
) -> None:
    pool_of(tmp_path, [record(i) for i in range(8)])
    out, command = tmp_path / "o", ["select", str(tmp_path / "pool.json"), "-m", "random"]
    more = ["--model", str(folder), "--adapter", SPEC, "-b", "3", "--store", str(tmp_path / "s")]
    ended = CliRunner().invoke(app, [*command, *more, "-o", str(out)])
    assert ended.exit_code == 0, ended.output
    assert f"random asks no model; --adapter {SPEC} is not used." in ended.output
    assert SPEC not in (out / "run.yaml").read_text()  # so that repeating it needs no adapter


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("train pool.json -o out", "train trains the model, and one that an adapter runs cannot"),
        ("compare pool.json -o out --eval pool.json -m random", "compare trains the model"),
        ("suspects pool.json", "suspects reads the model's hidden states"),
        ("doctor pool.json", "doctor counts tokens with the model's own processor"),
    ],
)
def test_commands_without_adapters_say_why(
    command: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--model", "folder", "--adapter", SPEC])
    error = capsys.readouterr().err.splitlines()[0]
    assert ended.value.code == 2
    assert error.startswith("Error: --adapter is for select, plan, evaluate")
    assert f": {reason}" in error


def test_select_plan_and_evaluate_run_it(folder: Path, tmp_path: Path) -> None:
    pool_of(tmp_path, [record(i) for i in range(8)])
    pool, run = str(tmp_path / "pool.json"), CliRunner()
    model = ["--model", str(folder), "--adapter", SPEC, "--store", str(tmp_path / "s")]
    plan = run.invoke(app, ["plan", pool, "-m", "clipper", "-b", "3", *model])
    assert plan.exit_code == 0 and "one row at a time" in plan.output, plan.output
    for method in ("perplexity", "clipper"):
        out = tmp_path / method
        done = run.invoke(app, ["select", pool, "-m", method, "-b", "3", "-o", str(out), *model])
        assert done.exit_code == 0, done.output
        assert len(json.loads((out / "subset.json").read_text())) == 3
    file = str(tmp_path / "perplexity" / "run.yaml")
    for command in ("select", "plan"):
        again = run.invoke(app, [command, "-c", file])
        assert again.exit_code == 2, again.output
        assert f"if you trust it, add --adapter {SPEC} to the command;" in again.output
        again = run.invoke(app, [command, "-c", file, "--adapter", SPEC])
        assert again.exit_code == 0, again.output
    for score in ("generate", "choice"):
        done = run.invoke(app, ["evaluate", "--data", pool, "--score", score, *model])
        assert done.exit_code == 0 and "Accuracy" in done.output, done.output


@pytest.mark.parametrize("model", ["aya_vision", "llava"])  # the latter writes no stop tokens
def test_the_class_of_the_documentation_gives_the_losses_of_the_own_backend(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "adapters.md").read_text("utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    # a family of transformers in the place of one with its own code
    code = code.replace("AutoModelForCausalLM", "AutoModelForImageTextToText")
    (tmp_path / "adapter_of_the_docs.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec, where = "adapter_of_the_docs:MyAdapter", str(build(model))
    check_adapter(spec, where)
    adapted = resolve(where, device="cpu", adapter=spec).open()
    own = resolve(where, device="cpu").open()
    found = [collect(b.answer_loss(ROWS, Images()), len(ROWS)) for b in (adapted, own)]
    assert not found[0][1] and not found[1][1]
    for name in ("nll", "tokens", "greedy_match"):
        np.testing.assert_allclose(found[0][0][name], found[1][0][name], atol=1e-5)
    texts = [collect(b.generate(ROWS, Images(), 6), len(ROWS))[0]["text"] for b in (adapted, own)]
    assert list(texts[0]) == list(texts[1])
