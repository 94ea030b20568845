"""A model's own processor (tokenizer, image processor, chat template), with or without torchvision.

Where torchvision works this is plain `AutoProcessor`. Without it `AutoProcessor` fails for every
model that also takes videos, because all video processors of transformers need torchvision;
thresher scores images only, so the same processor class is loaded without its video processor and
with the PIL version of its image processor. The two versions of an image processor resize a little
differently (up to 0.03 per pixel), hence the second return value, which is part of a score's
identity.

Reads files of the model folder (or the hub), never weights. Relies on one private method of
transformers, `ProcessorMixin._get_arguments_from_pretrained`; a test checks that it is there.
"""

from __future__ import annotations

import functools
import importlib
import json
import re
from pathlib import Path
from typing import Any, Literal

from thresher.errors import MissingExtra, ModelError, opt, reason_of
from thresher.request.image_pixels import ImagePixels

Pixels = Literal["pil", "torchvision"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def quiet_transformers() -> None:
    """From now on transformers prints no progress bars and no warnings of its own on stderr."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def load_processor(
    folder_or_id: str | Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    image_pixels: ImagePixels | None = None,
) -> tuple[Any, Pixels]:
    """The processor of a model folder or hub id, and which library resizes its images.

    Arguments:
        folder_or_id: a model folder or hub id.
        revision: the commit of a hub id.
        trust_remote_code: whether the model's own Python code may run.
        image_pixels: bounds on the pixels of an image; None: as in the model's files.

    Raises ModelError if it is not a multimodal model's processor: unreadable, no tokenizer, no
    image processor, no chat template, or its own code is needed and `trust_remote_code` is off.
    Raises MissingExtra if the processor needs a package that is not installed, and ConfigError if
    its images cannot be bounded by `image_pixels`.
    """
    name = str(folder_or_id)
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise ModelError(
            f"{name} has no config.json, so it is not a model folder. Give the folder that "
            "contains config.json, the tokenizer and the weights."
        )
    if not Path(name).is_dir() and not _HUB_ID.fullmatch(name):
        raise ModelError(
            f"There is no model folder {name}. Give a folder, or a hub id such as "
            "Qwen/Qwen2.5-VL-3B-Instruct."
        )
    quiet_transformers()
    try:
        processor = _load(name, revision, trust_remote_code)
    except ModelError:
        raise
    except Exception as e:  # whatever the reader of these files raises, the files are at fault
        if not torchvision_works() and "torchvision" in str(e).lower():
            raise MissingExtra(
                f"The image processor of {name} needs the package torchvision, which is not "
                "installed, and transformers has none on PIL for this model. Install the version "
                "of torchvision that matches your torch, or use another model."
            ) from e
        if isinstance(e, ImportError):
            raise MissingExtra(
                f"The processor of {name} needs a package that is not installed: {reason_of(e)}"
            ) from e
        raise ModelError(
            f"The processor of {name} cannot be loaded: {reason_of(e)}. A vision-language model "
            "in the transformers format is expected: config.json, a tokenizer, an image processor "
            "(processor_config.json or preprocessor_config.json) and a chat template. A model "
            "that only its own code can run needs an adapter (docs/adapters.md): "
            f"{opt('adapter', 'MODULE:CLASS')}."
        ) from e
    _check(name, processor)
    processor.chat_template = _chat_template(name, processor)
    if image_pixels is not None:
        from thresher.backends.hf.image_budget import set_budget

        set_budget(processor, image_pixels, name)
    return processor, _pixels_of(processor)


class NoVideo:
    """Takes the place of a processor's video processor, whose settings may be read even where there
    is no video: all of them are None.

    Arguments:
        source: folder or hub id of the model's files; "": not known.
        revision: the commit of a hub id.
    """

    def __init__(self, source: str = "", revision: str | None = None) -> None:
        self.source, self.revision = source, revision

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@functools.cache
def image_only(processor_class: type) -> type:
    """A subclass of `processor_class` with `NoVideo` as its video processor; the class itself if it
    has none.

    The subclass keeps the name, because a saved processor names its class.
    """
    attributes: list[str] = list(processor_class.get_attributes())  # type: ignore[attr-defined]
    if "video_processor" not in attributes:
        return processor_class
    position = attributes.index("video_processor")

    class WithoutVideo(processor_class):  # type: ignore[misc]
        """Loads the other parts."""

        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in attributes if name != "video_processor"]

    class ImageOnly(processor_class):  # type: ignore[misc]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return list(attributes)

        @classmethod
        def _get_arguments_from_pretrained(cls, *args: Any, **kwargs: Any) -> list[Any]:
            parts = list(WithoutVideo._get_arguments_from_pretrained(*args, **kwargs))
            # __init__ takes them by position
            parts.insert(position, NoVideo(str(args[0]), kwargs.get("revision")))
            return parts

        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if argument_name == "video_processor":
                return NoVideo
            return super().check_argument_for_proper_class(argument_name, argument)

        def __setattr__(self, name: str, value: Any) -> None:
            absent = name == "video_processor" and value is None
            super().__setattr__(name, NoVideo() if absent else value)

        def to_dict(self) -> dict[str, Any]:
            saved: dict[str, Any] = super().to_dict()
            saved.pop("video_processor", None)
            return saved

    for subclass in (ImageOnly, WithoutVideo):
        subclass.__name__ = subclass.__qualname__ = processor_class.__name__
    return ImageOnly


@functools.cache
def torchvision_works() -> bool:
    """Whether torchvision can be used. Raises ModelError if it is installed but broken, because
    transformers would use it."""
    from transformers.utils import is_torchvision_available

    if not is_torchvision_available():
        return False
    try:
        importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError) as e:
        raise ModelError(
            f"torchvision is installed but does not work ({reason_of(e)}). Install the version "
            "that matches your torch, or uninstall it: thresher does not need it."
        ) from e
    return True


def _load(name: str, revision: str | None, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig, AutoProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    if torchvision_works():
        return AutoProcessor.from_pretrained(
            name, revision=revision, trust_remote_code=trust_remote_code
        )
    config = AutoConfig.from_pretrained(
        name, revision=revision, trust_remote_code=trust_remote_code
    )
    processor_class = _named_class(name, revision)
    if processor_class is None and type(config) in PROCESSOR_MAPPING:
        processor_class = PROCESSOR_MAPPING[type(config)]
    if processor_class is None and trust_remote_code:  # the model has its own processor code
        return AutoProcessor.from_pretrained(name, revision=revision, trust_remote_code=True)
    if processor_class is None:
        raise ModelError(
            f"{name} is a {config.model_type!r} model, which takes no images in transformers. Give "
            "a vision-language model, for example Qwen2.5-VL or LLaVA, or write an adapter "
            f"(docs/adapters.md): {opt('adapter', 'MODULE:CLASS')}."
        )
    return image_only(processor_class).from_pretrained(  # type: ignore[attr-defined]
        name, revision=revision, trust_remote_code=trust_remote_code
    )


def _named_class(name: str, revision: str | None) -> type | None:
    """The processor class that the model's files name, found as AutoProcessor finds it.

    A llava config, for example, can come with the LLaVA or the Pixtral processor.
    """
    from transformers.models.auto.processing_auto import processor_class_from_name
    from transformers.utils import cached_file

    for file in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        path = cached_file(
            name, file, revision=revision, _raise_exceptions_for_missing_entries=False
        )
        if path is None:
            continue
        class_name = json.loads(Path(path).read_text(encoding="utf-8")).get("processor_class")
        if class_name:
            found: type | None = processor_class_from_name(class_name)
            return found
    return None


def _check(name: str, processor: Any) -> None:
    """Raise ModelError unless `processor` can turn a conversation with images into model inputs."""
    if (
        getattr(processor, "tokenizer", None) is None
        or getattr(processor, "image_processor", None) is None
    ):
        raise ModelError(
            f"{name} gives a {type(processor).__name__}, which has no tokenizer together with an "
            "image processor. Give a vision-language model, for example Qwen2.5-VL or LLaVA."
        )
    # Without its files a tokenizer may be created empty, without an error, and give no tokens.
    if not processor.tokenizer("Is it red? Yes.", add_special_tokens=False)["input_ids"]:
        raise ModelError(
            f"The tokenizer of {name} turns text into no tokens at all: its files "
            "(tokenizer.json, or a vocabulary) are missing. Copy them into the folder."
        )


def _chat_template(name: str, processor: Any) -> str:
    """The processor's own template, or else the tokenizer's, where fine-tuning may leave it
    (tokenizer_config.json).

    Of several named ones, the default, as transformers does for a conversation without tools.
    """
    for given, place in (
        (getattr(processor, "chat_template", None), "its processor"),
        (getattr(processor.tokenizer, "chat_template", None), "its tokenizer"),
    ):
        if isinstance(given, (list, tuple)):
            try:
                given = {template["name"]: template["template"] for template in given}
            except (TypeError, KeyError) as e:
                raise ModelError(
                    f"{name}: the list of chat templates of {place} has entries without name or "
                    "template. Save them again with a current version of transformers."
                ) from e
        if isinstance(given, dict) and given:
            if "default" not in given:
                names = ", ".join(sorted(map(str, given)))
                raise ModelError(
                    f"{name} has several named chat templates ({names}), and none is called "
                    "default. Copy the one to use to chat_template.jinja in the model's folder."
                )
            given = given["default"]
        if given and not isinstance(given, str):
            raise ModelError(
                f"{name}: the chat template of {place} is a {type(given).__name__}, not a text."
            )
        if given:
            return str(given)
    raise ModelError(
        f"{name} has no chat template, so conversations cannot be formatted as in its training. "
        "Use the instruction-tuned version of the model, or add a chat_template.jinja to the "
        "folder."
    )


def _pixels_of(processor: Any) -> Pixels:
    from transformers.image_processing_backends import TorchvisionBackend

    return "torchvision" if isinstance(processor.image_processor, TorchvisionBackend) else "pil"
