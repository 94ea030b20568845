"""`--vllm KEY=VALUE`: arguments of vLLM's engine, read by vLLM's own parser, as `vllm serve` reads
`--key value`.

Most of them change how fast the engine runs or how much memory it takes, some the numbers: these
are part of the model's identity. vLLM is imported only if an argument is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from thresher.errors import ConfigError, did_you_mean, opt

# arguments that thresher gives itself, and what to do instead
OWN = {
    "model": f"Give {opt('model')}.",
    "dtype": f"Give {opt('dtype')}.",
    "trust_remote_code": f"Give {opt('trust_remote_code', True)}.",
    "max_num_batched_tokens": f"Give {opt('batch_tokens')}.",
    "revision": f"Give {opt('model', 'NAME@REVISION')}.",
    "hf_token": "Set the environment variable HF_TOKEN: run.yaml holds all options of a run.",
} | dict.fromkeys(
    (
        *("code_revision", "tokenizer", "tokenizer_revision", "tokenizer_mode"),
        *("skip_tokenizer_init", "served_model_name", "runner", "convert", "pooler_config"),
        *("enable_prefix_caching", "max_logprobs", "logprobs_mode", "disable_log_stats"),
        *("language_model_only", "mm_encoder_only", "enable_lora", "default_mm_loras"),
    ),
    "Leave it out.",
)
# arguments that change nothing but the last bits of numbers, or which rows are too long
NO_NUMBERS = frozenset(
    {
        # several devices
        *("tensor_parallel_size", "pipeline_parallel_size", "distributed_executor_backend"),
        *("enable_expert_parallel", "mm_encoder_tp_mode", "disable_custom_all_reduce"),
        *("device_ids", "numa_bind", "numa_bind_nodes", "numa_bind_cpus"),
        *("master_addr", "master_port", "nnodes", "node_rank", "distributed_timeout_seconds"),
        # memory
        *("gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override"),
        *("block_size", "cpu_offload_gb", "max_model_len", "limit_mm_per_prompt"),
        *("mm_processor_cache_gb", "mm_processor_cache_type", "skip_mm_profiling"),
        # the order of work, compiled code, kernels
        *("max_num_seqs", "enable_chunked_prefill", "long_prefill_token_threshold"),
        *("scheduling_policy", "disable_chunked_mm_input", "async_scheduling"),
        *("enforce_eager", "compilation_config", "optimization_level", "cudagraph_capture_sizes"),
        *("max_cudagraph_capture_size", "attention_backend", "mm_encoder_attn_backend"),
        # loading and messages
        *("download_dir", "safetensors_load_strategy", "max_parallel_loading_workers"),
        *("ignore_patterns", "log_level", "seed"),
    }
)


def split(words: Sequence[str]) -> dict[str, str]:
    """The arguments by name, as text. `limit_mm_per_prompt.image` is a part of an argument.

    >>> split(["tensor-parallel-size=2", "--limit_mm_per_prompt.image=4"])
    {'tensor_parallel_size': '2', 'limit_mm_per_prompt.image': '4'}

    Arguments:
        words: KEY=VALUE each.

    Raises ConfigError for a word of another form, a name that is given twice, and an argument that
    thresher gives itself.
    """
    out: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        head, dot, rest = key.strip().lstrip("-").partition(".")
        name = head.replace("-", "_") + dot + rest
        value = value.strip()
        if not equals or not head or not value:
            raise ConfigError(
                f": expected KEY=VALUE, for example {opt('vllm', 'tensor_parallel_size=2')}.",
                option="vllm",
                value=word,
            )
        if name in out:
            raise ConfigError(f": {name} is given twice.", option="vllm", value=word)
        if (instead := OWN.get(_argument(name))) is not None:
            raise ConfigError(
                f": thresher gives vLLM this argument itself. {instead}",
                option="vllm",
                # no message shows a token
                value=name if name == "hf_token" else word,
            )
        out[name] = value
    return out


def changing_numbers(words: Sequence[str]) -> str:
    """The arguments that may change numbers, as they enter the model's identity; "": none.

    >>> changing_numbers(["quantization=fp8", "tensor_parallel_size=2", "kv_cache_dtype=fp8"])
    'kv_cache_dtype=fp8 quantization=fp8'

    Arguments:
        words: as for `split`.
    """
    given = split(words).items()
    return " ".join(sorted(f"{k}={v}" for k, v in given if _argument(k) not in NO_NUMBERS))


def parse(words: Sequence[str]) -> dict[str, Any]:
    """The arguments of `vllm.LLM`, checked by vLLM.

    Arguments:
        words: as for `split`.

    Raises ConfigError for a name that the installed vLLM does not know, or a value that it does not
    take.
    """
    given = split(words)
    if not given:
        return {}
    from thresher.backends.vllm.engine import import_vllm

    vllm = import_vllm()
    parser = _parser()
    actions = {
        action.dest: action for action in parser._actions
    }  # argparse lists them nowhere else
    asked: list[str] = []
    for name, value in given.items():
        argument, _, part = name.partition(".")
        action = actions.get(argument)
        if action is None:
            raise ConfigError(
                f": vLLM {vllm.__version__} has no such argument."
                f"{did_you_mean(argument, sorted(actions.keys() - OWN.keys()))} "
                "`vllm serve --help=all` lists them, with those of the server.",
                option="vllm",
                value=f"{name}={value}",
            )
        flag = "--" + argument.replace("_", "-") + (f".{part}" if part else "")
        if action.nargs == 0:  # a switch
            asked += _switch(flag, action, value)
        elif action.nargs in ("+", "*"):
            asked += [flag, *value.split()]
        else:
            asked.append(f"{flag}={value}")
    try:
        found = vars(parser.parse_args(asked))
    except (ValueError, argparse.ArgumentError) as e:
        reason = " ".join(str(e).split()).rstrip(".")
        raise ConfigError(f": vLLM does not take it: {reason}.", option="vllm") from e
    values = {name: found[name] for name in dict.fromkeys(_argument(key) for key in given)}
    if not isinstance(values.get("limit_mm_per_prompt", {}), dict):
        raise ConfigError(
            ': expected a number for each kind, such as limit_mm_per_prompt={"image": 4}.',
            option="vllm",
            value=f"limit_mm_per_prompt={given['limit_mm_per_prompt']}",
        )
    return values


def _argument(name: str) -> str:
    return name.partition(".")[0]


def _switch(flag: str, action: argparse.Action, value: str) -> list[str]:
    """The flags of a switch that is true or false."""
    wanted = {"true": True, "false": False}.get(value.lower())
    if wanted is None:
        raise ConfigError(
            ": expected true or false.",
            option="vllm",
            value=f"{action.dest}={value}",
        )
    if wanted:
        return [flag]
    off = "--no-" + flag.removeprefix("--")
    return [off] if off in action.option_strings else []


def _parser() -> argparse.ArgumentParser:
    """vLLM's parser of the engine's arguments; it raises ValueError instead of ending Python."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    class Parser(FlexibleArgumentParser):  # type: ignore[misc]
        def error(self, message: str) -> NoReturn:
            raise ValueError(message)

    found: argparse.ArgumentParser = EngineArgs.add_cli_args(
        Parser(add_help=False, allow_abbrev=False)
    )
    return found
