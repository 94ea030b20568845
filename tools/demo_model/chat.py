"""The demo model's chat format: special tokens, chat template, and an equivalent rendering in
Python for training.

Every turn is "<|role|>text<|end|>". A conversation's rendering is a prefix of its rendering with
more turns. An image part becomes the image placeholder, followed by a line break unless the next
part begins with one.
"""

from collections.abc import Sequence

PAD, BOS, END, IMAGE = "<pad>", "<s>", "<|end|>", "<image>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = (PAD, BOS, END, IMAGE, SYSTEM, USER, ASSISTANT)
IMAGE_TOKENS = 9  # patches of a 48x48 image

CHAT_TEMPLATE = (
    "{%- macro render(content) -%}"
    "{%- if content is string -%}{{ content }}"
    "{%- else -%}{%- for part in content -%}"
    "{%- if part['type'] == 'image' -%}{{ '<image>' }}"
    "{%- if loop.last or loop.nextitem['type'] != 'text' or loop.nextitem['text'][:1] != '\\n' "
    "-%}{{ '\\n' }}{%- endif -%}"
    "{%- elif part['type'] == 'text' -%}{{ part['text'] }}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{%- endmacro -%}"
    "{{ bos_token }}"
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{ raise_exception('unknown role: ' + message['role']) }}"
    "{%- endif -%}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{%- if message['role'] == 'assistant' -%}"
    "{% generation %}{{ render(message['content']) + '<|end|>' }}{% endgeneration %}"
    "{%- else -%}{{ render(message['content']) + '<|end|>' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


def user_text(question: str, images: int = 0) -> str:
    """The template's rendering of a user turn with `images` images before the question."""
    return f"{USER}{(IMAGE + chr(10)) * images}{question}{END}{ASSISTANT}"


def assistant_text(answer: str) -> str:
    return f"{answer}{END}"


def expand_images(ids: Sequence[int], image_id: int) -> list[int]:
    """Repeat each image placeholder for every patch, like the processor."""
    return [i for token in ids for i in ([token] * IMAGE_TOKENS if token == image_id else [token])]
