"""Text that a processor writes around an image: it is tokenised together with the conversation's
own text, because the two can merge into one token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import transformers as tf
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from tests.backends.hf.random_rows import Images, ask
from tests.backends.hf.slow_reference import messages_of, reference_encoding
from tests.tiny_models import load, picture
from thresher.backends.hf.blocks import assemble
from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.encode import Encoder
from thresher.backends.hf.images import ImagePreparer
from thresher.types import ImageRef, Sample, Turn


def gemma3() -> Any:
    return load("gemma3").processor


def gemma3n() -> Any:
    """Gemma 3n's processor, whose placeholder is the image's own token."""
    tiny = load("gemma3").processor
    named = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
        "boa_token": "<pad>",
        "eoa_token": "<pad>",
        "audio_token": "<pad>",
    }
    tokenizer = tf.PreTrainedTokenizerFast(
        tokenizer_object=tiny.tokenizer.backend_tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens=named,
    )
    return tf.Gemma3nProcessor(
        feature_extractor=tf.Gemma3nAudioFeatureExtractor(),
        image_processor=SiglipImageProcessorPil(size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        chat_template=tiny.chat_template.replace("<start_of_image>", "<image_soft_token>"),
        image_seq_length=4,
    )


def crops() -> Any:
    """Words that depend on the image, as Gemma 3 writes them for a wide one with crops."""
    processor = tf.Gemma3Processor(
        image_processor=load("gemma3").processor.image_processor,
        tokenizer=load("gemma3").processor.tokenizer,
        chat_template=load("gemma3").processor.chat_template,
        image_seq_length=4,
    )

    def replace_image_token(image_inputs: Any, image_idx: int, **_: Any) -> str:
        whole = processor.full_image_sequence
        bright = float(image_inputs["pixel_values"][image_idx].mean()) > 0
        return whole if bright else f"Here is the image {whole} and a crop {whole}\n"

    processor.replace_image_token = replace_image_token
    return processor


ROWS = {
    "image first": ask("What is it?", "A cat.", "1"),
    "no text beside it": ask("", "A cat.", "1"),
    "line breaks beside it": Sample(
        "0",
        (Turn("user", "Look:\n\n<image>\n\n\nWell?"), Turn("assistant", "\n12 5\n")),
        (ImageRef(path="2", size=1),),
    ),
    "two, one after the other": ask("Which is larger?", "The second one.", "1", "4"),
    "answers before an image": Sample(
        "0",
        (
            *(Turn("user", "Hello."), Turn("assistant", "Hi, two lines\n")),
            *(Turn("user", "This: <image>"), Turn("assistant", "Red. 7")),
            *(Turn("user", "<image>\nThis?"), Turn("assistant", "Blue.")),
        ),
        (ImageRef(path="3", size=1), ImageRef(path="1", size=1)),
    ),
    "no image": ask("Is ice cold?", "Yes."),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("make", [gemma3, gemma3n, crops])
def test_tokens_equal_the_processors(make: Callable[[], Any], name: str) -> None:
    processor, row = make(), ROWS[name]
    images = [Images().load_image(ref) for ref in row.images]
    want = reference_encoding(processor, messages_of(row), images)
    prepared = ImagePreparer(processor, processor.image_token)
    found = {str(k): prepared.prepare(image, False) for k, image in enumerate(images)}
    texts = tuple(p.texts for p in found.values())
    conv = conversation(row)
    encoder = Encoder(processor)
    (text,) = encoder.encode([type(conv)(conv.messages, conv.images, 0, texts)])
    assert not isinstance(text, str), text
    keys: dict[Any, Any] = {(k, False): p for k, p in found.items()}
    got = assemble(text, list(keys), keys)
    assert got.ids.tolist() == want["input_ids"]
    assert got.answer_positions.tolist() == want["answer_positions"]


def test_text_around_an_image_belongs_to_it() -> None:
    """Two images of one processor with different words around them."""
    processor = crops()
    prepared = ImagePreparer(processor, processor.image_token)
    texts = {prepared.prepare(picture(90, 90, seed), False).texts for seed in range(8)}
    assert texts == {("\n\n", "\n\n"), ("Here is the image \n\n", "\n\n\n")}


def test_image_among_two_has_the_tokens_of_one() -> None:
    """The line breaks between two images merge: the tokens of one are not half of both."""
    prepared = ImagePreparer(gemma3(), gemma3().image_token)
    one, of_two = (prepared.prepare(picture(), among) for among in (False, True))
    assert one.expansion == of_two.expansion == [5, 7, 7, 7, 7, 6]
    assert one.texts == of_two.texts == ("\n\n", "\n\n")


def numbered() -> Any:
    """A processor that numbers the images of a conversation, as MiniCPM-V's does."""
    processor = crops()
    replace = processor.get_text_with_replacements

    def with_numbers(text: Any, images: Any = (), *more: Any, **options: Any) -> Any:
        images = options.pop("images_replacements", images)
        images = [f"<end_of_image>{k}<end_of_image>{one}" for k, one in enumerate(images or ())]
        return replace(text, images, *more, **options)

    processor.get_text_with_replacements = with_numbers
    return processor


def test_images_are_numbered_as_the_processor_numbers_them() -> None:
    processor = numbered()
    row = ask("Which is larger?", "The second one.", *(str(k % 5) for k in range(12)))
    images = [Images().load_image(ref) for ref in row.images]
    want = reference_encoding(processor, messages_of(row), images)
    preparer = ImagePreparer(processor, processor.image_token)
    preparer.prepare(images[0], True)  # as when a model is opened: shows that there are numbers
    found = [preparer.prepare(image, False) for image in images]
    conv = conversation(row)
    (text,) = Encoder(processor).encode(
        [type(conv)(conv.messages, conv.images, 0, tuple(p.texts for p in found))]
    )
    assert not isinstance(text, str), text
    got = assemble(text, list(range(12)), dict(enumerate(found)))
    assert got.ids.tolist() == want["input_ids"]
    assert got.answer_positions.tolist() == want["answer_positions"]
    assert ImagePreparer(gemma3(), gemma3().image_token).prepare(picture(), True).number is None
