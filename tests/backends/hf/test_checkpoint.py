"""Invalid model folders give one message that names the problem, never a traceback."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import build
from thresher.backends.hf.checkpoint import check_index
from thresher.backends.hf.load import load
from thresher.backends.identity import find
from thresher.errors import MissingExtra, ModelError, NotAModel

QUANTISED: dict[str, tuple[dict[str, Any], str]] = {
    "awq": ({"bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}, "gptqmodel"),
    "gptq": ({"bits": 4, "group_size": 128, "desc_act": False}, "optimum"),
    "bitsandbytes": ({"load_in_4bit": True, "_load_in_4bit": True}, "bitsandbytes"),
    "compressed-tensors": ({"format": "int-quantized"}, "compressed[-_]tensors"),
    "hqq": ({"quant_config": {}}, "hqq"),
    "torchao": ({"quant_type": {"default": {}}}, "torchao"),
}
KERNELS: list[tuple[dict[str, Any], str]] = [
    ({"attn_implementation": "flash_attention_2"}, "flash-attn"),
    ({"_attn_implementation": "flash_attention_2"}, "flash-attn"),
    ({"attn_implementation": {"text_config": "flash_attention_2"}}, "flash-attn"),
    ({"attn_implementation": "flash_attention_3"}, "flash-attn-3"),
    ({"attn_implementation": "kernels-community/flash-attn"}, "kernels"),
]


def changed(folder: Path, change: dict[str, Any]) -> Path:
    out = Path(shutil.copytree(build("qwen2_5_vl"), folder / "model"))
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, **change}))
    return out


def open_model(folder: Path) -> None:
    load(
        str(folder),
        revision=None,
        device="cpu",
        dtype="float32",
        batch_tokens=None,
        trust_remote_code=False,
    )


def absent(package: str) -> None:
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed here")


@pytest.mark.parametrize("method", QUANTISED)
def test_error_for_quantised_model_names_its_package(method: str, tmp_path: Path) -> None:
    settings, package = QUANTISED[method]
    absent(package.replace("[-_]", "_"))
    folder = changed(tmp_path, {"quantization_config": {"quant_method": method, **settings}})
    with pytest.raises(MissingExtra, match=rf"(?s){method}.*{package}"):
        open_model(folder)


@pytest.mark.parametrize("where", ["", "text_config"])
@pytest.mark.parametrize("method", ["exl2", "int3_of_tomorrow"])
def test_unknown_quantisation_is_refused(method: str, where: str, tmp_path: Path) -> None:
    folder = changed(tmp_path, {})
    config = json.loads((folder / "config.json").read_text())
    (config.setdefault(where, {}) if where else config)["quantization_config"] = {
        "quant_method": method,
        "bits": 4,
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=rf"quantised by '{method}'.*does not know"):
        open_model(folder)


@pytest.mark.parametrize(("change", "package"), KERNELS)
def test_error_for_attention_kernel_names_its_package(
    change: dict[str, Any], package: str, tmp_path: Path
) -> None:
    absent("kernels" if package == "kernels" else "flash_attn")
    with pytest.raises(
        MissingExtra,
        match=r"attention kernel.*package "
        rf"{package}.*attn_implementation",
    ):
        open_model(changed(tmp_path, change))


def test_unknown_attention_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        open_model(changed(tmp_path, {"attn_implementation": "no_such_kernel"}))


@pytest.mark.parametrize("kind", ["qwen9_vl", "llava_of_tomorrow"])
def test_unknown_model_type_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(
        NotAModel,
        match=rf"{kind}.*installed transformers.*does not\s+know.*pip "
        r"install -U",
    ):
        find(str(changed(tmp_path, {"model_type": kind})), False, None)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_text_only_model_is_not_called_unknown(kind: str, tmp_path: Path) -> None:
    with pytest.raises(NotAModel, match="takes no images"):
        find(str(changed(tmp_path, {"model_type": kind})), False, None)


def test_a_config_nested_too_deep(tmp_path: Path) -> None:
    folder = changed(tmp_path, {})
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        find(str(folder), False, None)


OUTSIDE = ["../other/model.safetensors", "/etc/hostname", "parts/../../x.safetensors", "a\0b"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_weight_index_with_a_file_outside_the_folder(name: str, tmp_path: Path) -> None:
    folder = changed(tmp_path, {})
    weights = folder / "model.safetensors"
    (tmp_path / "other").mkdir()
    shutil.move(weights, tmp_path / "other" / "model.safetensors")
    (folder / "w.safetensors").write_bytes(b"")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"lm_head.weight": name}})
    )
    for use in (lambda: find(str(folder), False, None), lambda: open_model(folder)):
        with pytest.raises(
            ModelError,
            match=r"index\.json names the file .* outside the model's "
            r"folder",
        ):
            use()


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": ["b"]}}', "[" * 100_000]
)
def test_unreadable_weight_index(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match=r"index\.json cannot be read"):
        check_index(tmp_path, "--model x")


@pytest.mark.parametrize(
    "index", [{"weight_map": {"a": "missing.safetensors"}}, {"weight_map": {}}]
)
def test_weight_index_with_missing_files(index: dict[str, Any], tmp_path: Path) -> None:
    folder = changed(tmp_path, {})
    (folder / "model.safetensors").rename(folder / "w.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="cannot be loaded"):
        open_model(folder)
