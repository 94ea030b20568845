"""Arguments of vLLM's engine: which are taken, which are refused, and which are part of a score's
identity. With a stand-in for vLLM's parser."""

from __future__ import annotations

import argparse
import json
import sys
from types import ModuleType
from typing import Any

import pytest

from thresher.backends.vllm.arguments import NO_NUMBERS, OWN, changing_numbers, parse, split
from thresher.errors import ConfigError
from thresher.request.spelling import as_flag


class EngineArgs:
    """As vLLM's class, with one argument of each form."""

    @staticmethod
    def add_cli_args(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
        parser.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
        parser.add_argument("--enforce-eager", action=argparse.BooleanOptionalAction)
        parser.add_argument("--only-on", action="store_true")
        parser.add_argument("--limit-mm-per-prompt", type=json.loads, default={})
        parser.add_argument("--sizes", type=int, nargs="+")
        parser.add_argument("--quantization", choices=["awq", "fp8"])
        parser.add_argument("--dtype")
        return parser


@pytest.fixture(autouse=True)
def _package(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {
        "vllm": {"__version__": "0.99"},
        "vllm.engine": {},
        "vllm.engine.arg_utils": {"EngineArgs": EngineArgs},
        "vllm.utils": {},
        "vllm.utils.argparse_utils": {"FlexibleArgumentParser": argparse.ArgumentParser},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["tensor_parallel_size=2"], {"tensor_parallel_size": 2}),
        (["--tensor-parallel-size = 2"], {"tensor_parallel_size": 2}),
        (["enforce_eager=true"], {"enforce_eager": True}),
        (["enforce_eager=False", "only_on=true"], {"enforce_eager": False, "only_on": True}),
        (["only_on=false"], {"only_on": False}),
        (['limit_mm_per_prompt={"image": 2}'], {"limit_mm_per_prompt": {"image": 2}}),
        (["sizes=1 2 4"], {"sizes": [1, 2, 4]}),
    ],
)
def test_vllm_s_parser_reads_the_values(words: list[str], expected: dict[str, Any]) -> None:
    assert parse(words) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tensor_parallel_size"], "--vllm tensor_parallel_size: expected KEY=VALUE"),
        (["=2"], "expected KEY=VALUE"),
        (["enforce_eager="], "expected KEY=VALUE"),
        (["tensor_paralel_size=2"], "has no such argument. Did you mean 'tensor_parallel_size'?"),
        (["tensor_parallel_size=two"], "vLLM does not take it: argument --tensor-parallel-size"),
        (["quantization=int1"], "invalid choice: 'int1'"),
        (["enforce_eager=perhaps"], "--vllm enforce_eager=perhaps: expected true or false."),
        (["limit_mm_per_prompt=3"], "expected a number for each kind"),
        (["sizes=1", "sizes=2"], "--vllm sizes=2: sizes is given twice."),
        (["dtype=half"], "thresher gives vLLM this argument itself. Give --dtype."),
        (["max-num-batched-tokens=9"], "Give --batch-tokens."),
        (["revision=main"], "Give --model NAME@REVISION."),
    ],
)
def test_what_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(words)
    assert said in error.value.spelled(as_flag)


def test_no_message_shows_a_token() -> None:
    with pytest.raises(ConfigError) as error:
        split(["hf_token=secret"])
    assert "secret" not in str(error.value) and "HF_TOKEN" in str(error.value)


def test_arguments_that_may_change_numbers_are_part_of_the_identity() -> None:
    words = ["quantization=fp8", "tensor_parallel_size=2", 'hf_overrides={"a": 1}', "new_in_vllm=1"]
    expected = 'hf_overrides={"a": 1} new_in_vllm=1 quantization=fp8'
    assert changing_numbers(words) == changing_numbers(words[::-1]) == expected
    assert changing_numbers(["max_model_len=4k", "limit_mm_per_prompt.image=2"]) == ""
    assert not NO_NUMBERS & OWN.keys()
