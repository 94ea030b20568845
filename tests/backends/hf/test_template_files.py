"""The files of a model folder in which a chat template may be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import build
from thresher.backends.hf.encode import Encoder
from thresher.backends.hf.processor import load_processor
from thresher.errors import ModelError

MODELS = ("qwen2_5_vl", "llava")


def bare(name: str, folder: Path) -> tuple[Path, str]:
    """A model folder without its template, and the template."""
    out = Path(shutil.copytree(build(name), folder / name))
    template = (out / "chat_template.jinja").read_text()
    (out / "chat_template.jinja").unlink()
    return out, template


def put(file: Path, value: Any) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**content, "chat_template": value}))


def named(template: str) -> list[dict[str, str]]:
    return [
        {"name": "tool_use", "template": "{{ 'tools' }}"},
        {"name": "default", "template": template},
    ]


def in_files(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ 'tools' }}")


PLACES: dict[str, Callable[[Path, str], None]] = {
    "tokenizer_config.json": lambda f, t: put(f / "tokenizer_config.json", t),
    "a list in tokenizer_config.json": lambda f, t: put(f / "tokenizer_config.json", named(t)),
    "chat_template.json": lambda f, t: put(f / "chat_template.json", t),
    "a list in chat_template.json": lambda f, t: put(f / "chat_template.json", named(t)),
    "processor_config.json": lambda f, t: put(f / "processor_config.json", t),
    "a list in processor_config.json": lambda f, t: put(f / "processor_config.json", named(t)),
    "additional_chat_templates": in_files,
    "its own file": lambda f, t: (f / "chat_template.jinja").write_text(t) and None,  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", MODELS)
def test_template_is_found(name: str, place: str, tmp_path: Path) -> None:
    folder, template = bare(name, tmp_path)
    PLACES[place](folder, template)
    assert load_processor(folder)[0].chat_template == template


@pytest.mark.parametrize("name", MODELS)
def test_processor_template_takes_precedence_over_tokenizer_template(
    name: str, tmp_path: Path
) -> None:
    folder, template = bare(name, tmp_path)
    put(folder / "processor_config.json", template)
    put(folder / "tokenizer_config.json", "{{ 'the tokenizer' }}")
    assert load_processor(folder)[0].chat_template == template


@pytest.mark.parametrize("file", ["tokenizer_config.json", "processor_config.json"])
def test_named_templates_without_default(file: str, tmp_path: Path) -> None:
    folder, template = bare("qwen2_5_vl", tmp_path)
    put(
        folder / file,
        [{"name": "rag", "template": template}, {"name": "tool_use", "template": template}],
    )
    with pytest.raises(
        ModelError,
        match=r"rag, tool_use.*none is called "
        r"default.*chat_template\.jinja",
    ):
        load_processor(folder)


@pytest.mark.parametrize("value", [[{"name": "default"}], 7, ["a"]])
def test_invalid_template_files(value: Any, tmp_path: Path) -> None:
    folder, _ = bare("qwen2_5_vl", tmp_path)
    put(folder / "tokenizer_config.json", value)
    with pytest.raises(ModelError):
        load_processor(folder)


TEXTS_ONLY = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' "
    "}}{% endfor %}",
    "{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '\n' }}{% endfor %}",
)


@pytest.mark.parametrize("template", TEXTS_ONLY)
def test_text_only_template_is_refused(template: str, tmp_path: Path) -> None:
    folder, _ = bare("qwen2_5_vl", tmp_path)
    put(folder / "tokenizer_config.json", template)
    processor, _ = load_processor(folder)
    with pytest.raises(ModelError, match=r"plain texts.*chat_template\.jinja"):
        Encoder(processor)
