"""Loading a model's processor without torchvision, and refusing invalid folders."""

from __future__ import annotations

import importlib
import inspect
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoProcessor
from transformers.processing_utils import ProcessorMixin

from tests import tiny_models
from tests.tiny_models import ARCHITECTURES, MODELS, NO_IMAGES, Loaded, build, load, picture
from thresher.backends.hf import processor as module
from thresher.backends.hf.processor import image_only, load_processor, torchvision_works
from thresher.errors import MissingExtra, ModelError

without_torchvision = pytest.mark.skipif(
    torchvision_works(), reason="about the loader that is used without torchvision"
)


def copy(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(build(name), folder / name))


# --------------------------------------------------------------------------------------- what loads


def test_every_architecture_loads(tiny: Loaded) -> None:
    processor, pixels = load_processor(tiny.folder)
    assert pixels == ("torchvision" if torchvision_works() else "pil")
    assert (
        type(processor).__name__
        == json.loads((tiny.folder / "processor_config.json").read_text())["processor_class"]
    )
    conversation = [
        {
            "role": "user",
            "content": [{"type": "image", "image": picture()}, {"type": "text", "text": "Hm?"}],
        }
    ]
    inputs = processor.apply_chat_template(
        conversation, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert inputs["pixel_values"].numel() > 0
    assert inputs["input_ids"].shape[0] == 1


@without_torchvision
def test_equals_auto_processor_if_that_works() -> None:
    """LLaVA-1.5 and Llama-3.2-Vision take no videos: AutoProcessor loads them without torchvision
    too."""
    for name in ("llava", "mllama"):
        ours, _ = load_processor(build(name))
        theirs = AutoProcessor.from_pretrained(build(name))
        assert type(ours) is type(theirs)
        assert ours.to_dict() == theirs.to_dict()
        assert ours.chat_template == theirs.chat_template


@without_torchvision
def test_settings_of_the_folder_reach_the_processor(tmp_path: Path) -> None:
    folder = copy("smolvlm", tmp_path)
    file = folder / "processor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_seq_len": 7}))
    processor, _ = load_processor(folder)
    assert processor.image_seq_len == 7
    assert processor.image_processor.size["longest_edge"] == 112


@without_torchvision
def test_folders_of_older_transformers(tiny: Loaded, tmp_path: Path) -> None:
    """Most of the hub's: image settings in preprocessor_config.json, the template in a JSON file,
    nothing on videos."""
    folder = copy(tiny.name, tmp_path)
    settings = json.loads((folder / "processor_config.json").read_text())
    images = settings.pop("image_processor") | {"processor_class": settings["processor_class"]}
    images["image_processor_type"] = images["image_processor_type"].removesuffix("Pil")
    settings.pop("video_processor", None)
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    (folder / "processor_config.json").unlink()
    if set(settings) - {"processor_class"}:
        (folder / "processor_config.json").write_text(json.dumps(settings))
    template = folder / "chat_template.jinja"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template.read_text()}))
    template.unlink()

    processor, pixels = load_processor(folder)
    assert pixels == "pil"
    assert processor.chat_template == tiny.processor.chat_template
    ours, theirs = _call(processor), _call(tiny.processor)
    assert np.array_equal(ours["input_ids"], theirs["input_ids"])
    assert np.array_equal(ours["pixel_values"], theirs["pixel_values"])


def _call(processor: Any) -> Any:
    return processor(
        text=f"Look: {processor.image_token} Hm?", images=[picture()], return_tensors="np"
    )


@without_torchvision
def test_class_named_in_the_folder_wins(tmp_path: Path) -> None:
    """A llava config may come with another model's processor: AutoProcessor follows the name in the
    folder, as we do."""
    folder = copy("llava", tmp_path)
    file = folder / "processor_config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"processor_class": "LlavaNextProcessor"})
    )
    processor, _ = load_processor(folder)
    assert type(processor).__name__ == "LlavaNextProcessor"


# ----------------------------------------------------------------------------- transformers' inside


def test_overridden_private_method_exists() -> None:
    """`image_only` fills the empty video slot by overriding
    ProcessorMixin._get_arguments_from_pretrained."""
    import transformers

    help_text = (
        f"transformers {transformers.__version__} has changed how a processor collects its parts. "
        "`image_only` in thresher/backends/hf/processor.py overrides "
        "ProcessorMixin.get_attributes and _get_arguments_from_pretrained: read their new form, "
        "adapt image_only, then this test."
    )
    method = inspect.getattr_static(ProcessorMixin, "_get_arguments_from_pretrained", None)
    assert isinstance(method, classmethod), help_text
    assert list(inspect.signature(method.__func__).parameters)[:2] == [
        "cls",
        "pretrained_model_name_or_path",
    ], help_text
    assert isinstance(
        inspect.getattr_static(ProcessorMixin, "get_attributes", None), classmethod
    ), help_text
    source = inspect.getsource(ProcessorMixin.from_pretrained)
    assert "_get_arguments_from_pretrained(" in source and "from_args_and_dict(" in source, (
        help_text
    )


def test_image_only_loads_no_video_processor() -> None:
    from transformers import LlavaProcessor, Qwen2_5_VLProcessor

    cut = image_only(Qwen2_5_VLProcessor)
    assert issubclass(cut, Qwen2_5_VLProcessor) and cut.__name__ == "Qwen2_5_VLProcessor"
    assert image_only(LlavaProcessor) is LlavaProcessor
    assert image_only(Qwen2_5_VLProcessor) is cut
    # the slot is kept: processors read settings of their video processor, or take it by name
    loaded = cut.from_pretrained(build("qwen2_5_vl"))
    assert loaded.video_processor.fps is None and loaded.video_processor.slice_mode is None
    assert loaded.tokenizer is not None and loaded.image_processor is not None


@pytest.mark.parametrize("name", ["qwen2_5_vl", "gemma4", "smolvlm"])
def test_a_processor_without_video_is_saved_without_it(name: str, tmp_path: Path) -> None:
    processor, _ = load_processor(build(name))
    assert "NoVideo" in type(processor.video_processor).__name__ or torchvision_works()
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert torchvision_works() or "video_processor" not in saved
    assert "image_processor" in saved and saved["processor_class"] == type(processor).__name__


@pytest.mark.skipif(torchvision_works(), reason="torchvision is installed here")
def test_a_processor_that_needs_torchvision_names_the_package(tmp_path: Path) -> None:
    """Llama 4's image processor has no version on PIL."""
    folder = shutil.copytree(build("qwen2_5_vl"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "llama4"}
    (folder / "config.json").write_text(json.dumps(config))
    file = folder / "processor_config.json"
    saved = json.loads(file.read_text())
    saved["processor_class"] = "Llama4Processor"
    saved["image_processor"] = {"image_processor_type": "Llama4ImageProcessor"}
    file.write_text(json.dumps(saved))
    with pytest.raises(MissingExtra, match="needs the package torchvision"):
        load_processor(folder)


# ---------------------------------------------------------------------------------- what is refused


def refusal(where: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load_processor(where)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_model_without_vision() -> None:
    assert "takes no images" in refusal(build(NO_IMAGES)) or "no tokenizer together" in refusal(
        build(NO_IMAGES)
    )


def test_no_such_folder(tmp_path: Path) -> None:
    assert "no model folder" in refusal(tmp_path / "none")
    assert "no model folder" in refusal("./models/mine/none")


def test_a_folder_without_config(tmp_path: Path) -> None:
    assert "no config.json" in refusal(tmp_path)


def test_a_config_that_is_not_json(tmp_path: Path) -> None:
    folder = copy("llava", tmp_path)
    (folder / "config.json").write_text("{")
    assert str(folder) in refusal(folder)


def test_an_unknown_kind_of_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "abacus"}))
    assert "abacus" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_no_tokenizer(tmp_path: Path, name: str) -> None:
    """Qwen's tokenizer class loads empty without its files, which must be refused."""
    folder = copy(name, tmp_path)
    for file in folder.glob("*token*"):
        file.unlink()
    assert str(folder) in (message := refusal(folder)) and "tokenizer" in message


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_no_image_processor(tmp_path: Path, name: str) -> None:
    folder = copy(name, tmp_path)
    (folder / "processor_config.json").unlink()
    assert str(folder) in refusal(folder)


def test_no_chat_template(tmp_path: Path) -> None:
    folder = copy("llava", tmp_path)
    (folder / "chat_template.jinja").unlink()
    assert "no chat template" in refusal(folder)


def test_remote_code_is_not_run_by_default(tmp_path: Path) -> None:
    """A folder with its own Python is refused, and its code is not executed."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = {
        "model_type": "abacus",
        "auto_map": {"AutoConfig": "evil.C", "AutoProcessor": "evil.P"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert str(tmp_path) in refusal(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_error_names_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str, revision: str | None, trust_remote_code: bool) -> Any:
        raise ImportError("Package `num2words` is required to run SmolVLM processor.\nInstall it.")

    monkeypatch.setattr(module, "_load", fails)
    with pytest.raises(MissingExtra, match="num2words"):
        load_processor(build("smolvlm"))


# -------------------------------------------------------------------------------------- torchvision


@pytest.fixture
def torchvision_seems_installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    load("llava")  # with what is really installed; cached
    monkeypatch.setattr("transformers.utils.is_torchvision_available", lambda: True)
    torchvision_works.cache_clear()
    yield
    torchvision_works.cache_clear()


@pytest.mark.usefixtures("torchvision_seems_installed")
def test_broken_torchvision_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModelError, match=r"nms does not exist.*uninstall"):
        torchvision_works()


@pytest.mark.usefixtures("torchvision_seems_installed")
def test_working_torchvision_uses_auto_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    processor = load("llava").processor
    asked = []

    def plain(name: str, **settings: Any) -> Any:
        asked.append((name, settings))
        return processor

    monkeypatch.setattr(AutoProcessor, "from_pretrained", plain)
    real = importlib.import_module
    monkeypatch.setattr(
        importlib,
        "import_module",
        lambda name, package=None: (
            object() if name.startswith("torchvision") else real(name, package)
        ),
    )
    # by what it holds, not by what is there
    assert load_processor("org/name", revision="abc") == (processor, "pil")
    assert asked == [("org/name", {"revision": "abc", "trust_remote_code": False})]


# ------------------------------------------------------------------------- the cache of tiny models


def test_tiny_models_are_built_once(tmp_path: Path) -> None:
    first = build("llava", tmp_path)
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert build("llava", tmp_path) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    # nothing half-built stays behind
    assert [p.name for p in first.parent.iterdir()] == [first.name]


def test_tiny_models_are_deterministic(tmp_path: Path) -> None:
    one, other = build("qwen3_vl", tmp_path / "a"), build("qwen3_vl", tmp_path / "b")
    names = sorted(p.name for p in one.iterdir())
    assert names == sorted(p.name for p in other.iterdir())
    assert all((one / n).read_bytes() == (other / n).read_bytes() for n in names)


def test_two_processes_may_build_the_same_tiny_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process finishes first: its folder stays, ours goes, and both get the same answer."""
    real = MODELS["llava"]
    others: list[Path] = []

    def slower(out: Path, size: tiny_models.Size) -> None:
        monkeypatch.setitem(MODELS, "llava", real)
        others.append(build("llava", tmp_path))
        real.write(out, size)

    monkeypatch.setitem(MODELS, "llava", replace(real, write=slower))
    assert [build("llava", tmp_path)] == others
    assert [p.name for p in others[0].parent.iterdir()] == [others[0].name]


def test_unknown_tiny_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bakllava"):
        build("bakllava", tmp_path)
    with pytest.raises(ValueError, match="small"):
        build(ARCHITECTURES[-1], tmp_path, size="small")
