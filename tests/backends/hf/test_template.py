"""Chat templates: the rendering of a row depends only on that row, and every rendering
terminates."""

from __future__ import annotations

import copy
import functools
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.model_families import families
from tests.tiny_models import ARCHITECTURES, build
from thresher.backends.hf.conversation import Conversation, Message
from thresher.backends.hf.encode import EncodedText, Encoder, PromptEncoder, template_arguments
from thresher.backends.hf.processor import load_processor
from thresher.backends.hf.template import ChatTemplate
from thresher.errors import ModelError
from thresher.types import ImageRef

TEXT_OF = (
    "{%- macro text_of(content) -%}{%- if content is string -%}{{- content -}}{%- else -%}{%- for "
    "p in content -%}"
    "{%- if p.type == 'text' -%}{{- p.text -}}{%- endif -%}{%- endfor -%}{%- endif -%}{%- "
    "endmacro -%}"
    "{%- macro images_of(content) -%}{%- for p in content -%}{%- if p.type == 'image' -%}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}{%- endif -%}{%- endfor -%}{%- endmacro "
    "-%}"
)


def turns(body: str, before: str = "") -> str:
    """A template that writes `body` (Jinja, with the turn's text as `text`) in each turn."""
    return (
        f"{TEXT_OF}{before}{{%- for message in messages -%}}{{%- set text = "
        "text_of(message.content) -%}"
        "{{- '<|im_start|>' + message.role + '\\n' + images_of(message.content) "
        f"-}}}}{body}{{{{- '<|im_end|>\\n' -}}}}{{%- endfor -%}}"
        "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
    )


READS = {
    "thoughts cut by split": turns("{{- text.split('</think>')[-1].lstrip('\\n') -}}"),
    "thoughts cut where they are": turns(
        "{%- if '</think>' in text -%}{{- text.split('</think>')[1] -}}{%- else -%}{{- text "
        "-}}{%- endif -%}"
    ),
    "the other way round": turns(
        "{%- if text in 'yes and no' -%}{{- '!' + text -}}{%- else -%}{{- text -}}{%- endif -%}"
    ),
    "replaced": turns("{{- text | replace('cat', 'dog') -}}"),
    "a method replaces": turns("{{- text.replace('cat', 'dog') -}}"),
    "starts with": turns("{%- if text.startswith('Hm') -%}{{- '?' -}}{%- endif -%}{{- text -}}"),
    "upper case": turns("{{- text | upper -}}"),
    "capitals looked for": turns(
        "{%- if text == text | upper -%}{{- '!' -}}{%- endif -%}{{- text -}}"
    ),
    "length": turns("{%- if text | length > 20 -%}{{- 'long: ' -}}{%- endif -%}{{- text -}}"),
    "first character": turns("{%- if text[0] == 'T' -%}{{- 'T: ' -}}{%- endif -%}{{- text -}}"),
    "cut": turns("{{- text[:12] -}}"),
    "characters": turns(
        "{%- for c in text -%}{%- if c != 'x' -%}{{- c -}}{%- endif -%}{%- endfor -%}"
    ),
    "stripped of newlines only": turns("{{- text.strip('\\n') -}}"),
    "an earlier turn decides": turns(
        "{{- text -}}",
        "{%- if 'cat' in text_of(messages[0].content) -%}{{- 'cats\\n' -}}{%- endif -%}",
    ),
    "a dictionary decides": turns("{{- {'Yes.': 'yes', 'No.': 'no'}.get(text, text) -}}"),
    "a test decides": turns(
        "{%- if text is in ['Yes.', 'No.'] -%}{{- 'short: ' -}}{%- endif -%}{{- text -}}"
    ),
    "conditions of an expression": turns("{{- ('cat: ' if 'cat' in text else '') + text -}}"),
    "truth": turns("{{- (text.replace('Yes.', '') and 'more: ') + text -}}"),
    "a filtered loop": turns(
        "{%- for w in [text] if 'cat' in w -%}{{- 'cat: ' -}}{%- endfor -%}{{- text -}}"
    ),
    "a filter block": turns("{%- filter replace('cat', 'dog') -%}{{- text -}}{%- endfilter -%}"),
    "json": turns("{{- text | tojson -}}"),
    "a format": turns("{{- '%.9s' | format(text) -}}"),
    "a format by operator": turns("{{- '%.9s' % text -}}"),
    "parts chosen by text": turns(
        "{{- text -}}{{- messages | selectattr('content', 'ne', 'x') | list | length -}}"
    ),
    "a whole list printed": turns(
        "{{- text -}}{%- if message.content | length > 1 -%}{{- message.content ~ '' -}}{%- endif "
        "-%}"
    ),
    "through a namespace": turns(
        "{%- set seen.text = text -%}{%- if 'cat' in seen.text -%}{{- 'cat: ' -}}{%- endif -%}{{- "
        "text -}}",
        "{%- set seen = namespace(text='') -%}",
    ),
    "through a macro": turns(
        "{{- only(text) -}}",
        "{%- macro only(x) -%}{%- if x != 'Yes.' -%}{{- x -}}{%- else -%}{{- 'yes' -}}{%- endif "
        "-%}{%- endmacro -%}",
    ),
    "through a block": turns(
        "{%- set both -%}{{- 'a: ' -}}{{- text -}}{%- endset -%}"
        "{%- if 'cat' in both -%}{{- 'cat: ' -}}{%- endif -%}{{- text -}}"
    ),
    "through a call": turns(
        "{%- call wrapped() -%}{{- text -}}{%- endcall -%}",
        "{%- macro wrapped() -%}{%- set inner = caller() -%}{{- inner | replace('cat', 'dog') "
        "-}}{%- endmacro -%}",
    ),
}
PLAIN = {
    "as it is": turns("{{- text -}}"),
    "trimmed": turns("{{- text | trim -}}"),
    "stripped": turns("{{- text.strip() -}}"),
    "left only": turns("{{- text.lstrip() -}}"),
    "words around": turns("{{- ('\\n: ' ~ text ~ ' .\\n') | trim -}}"),
    "a block": turns("{%- set both -%}{{- 'a: ' -}}{{- text -}}{%- endset -%}{{- both | trim -}}"),
    "a default": turns("{{- text | default('nothing') -}}"),
    "roles": turns(
        "{%- if message.role == 'user' and loop.first -%}{{- 'first ' -}}{%- endif -%}{{- text -}}"
    ),
    "generation": turns("{%- generation -%}{{- text -}}{%- endgeneration -%}"),
    "joined": turns("{{- [text, '!'] | join(' ') -}}"),
}
TEXTS = (
    *(
        "Yes.",
        "No.",
        "Hm. A cat",
        "The cat is on the mat, and it is red.",
        "X",
        "a cat",
        "TWO CATS",
        "xx axx",
    ),
    *(
        "<think>\nIt may be a cat.\n</think>\n\nYes.",
        "</think>No.",
        "\n\nIt is so.\n",
        " \t cat ",
        "It is {{ 7 }}",
        "yes",
    ),
)


def conversation(*texts: str, system: str = "", scored_from: int = 0) -> Conversation:
    """A question with an image, then answers and questions in turn."""
    front = (Message("system", (system,)),) if system else ()
    body = [Message("assistant" if k % 2 else "user", (t,)) for k, t in enumerate(texts)]
    body[0] = Message("user", (None, *body[0].parts))
    return Conversation((*front, *body), (ImageRef(path="a", size=1),), scored_from)


def pool(seed: int, n: int = 20) -> list[Conversation]:
    rng = random.Random(seed)
    return [conversation(*rng.choices(TEXTS, k=rng.choice((2, 2, 4)))) for _ in range(n)]


@functools.cache
def loaded(name: str) -> Any:
    """The processor of the tiny model `name`. Shared: do not change it."""
    return load_processor(build(name))[0]


def processor_with(template: str, name: str = "qwen2_5_vl") -> Any:
    processor = copy.copy(loaded(name))
    processor.chat_template = template
    return processor


def official(processor: Any, conv: Conversation) -> str:
    """What the processor itself writes."""
    messages = [
        {
            "role": m.role,
            "content": [
                {"type": "image"} if p is None else {"type": "text", "text": p} for p in m.parts
            ],
        }
        for m in conv.messages
    ]
    return str(
        processor.apply_chat_template(messages, tokenize=False, **template_arguments(processor))
    )


def key(text: EncodedText | str) -> Any:
    return (
        text if isinstance(text, str) else (text.ids, text.image_positions, text.answer_positions)
    )


def alone_and_in_company(processor: Any, rows: Sequence[Conversation]) -> list[Any]:
    """The encodings of all rows together; asserts that they equal those of single rows and of half
    of the rows."""
    together = [key(t) for t in Encoder(processor).encode(rows)]
    for i, row in enumerate(rows):
        assert key(Encoder(processor).encode([row])[0]) == together[i]
    half = len(rows) // 2
    resumed = Encoder(processor)
    assert [key(t) for t in resumed.encode(rows[half:])] == together[half:]
    assert [key(t) for t in resumed.encode(rows[:half])] == together[:half]
    return together


@pytest.mark.parametrize("name", [*READS, *PLAIN])
def test_row_does_not_depend_on_its_batch(name: str) -> None:
    processor = processor_with((READS | PLAIN)[name])
    rows = pool(0, 12)
    texts = alone_and_in_company(processor, rows)
    assert sum(isinstance(t, str) for t in texts) < len(texts) // 2, texts
    for row, text in zip(rows, texts, strict=True):
        assert (
            isinstance(text, str)
            or text[0] == processor.tokenizer(official(processor, row))["input_ids"]
        )


@pytest.mark.parametrize("name", READS)
def test_template_that_depends_on_texts_is_detected(name: str) -> None:
    encoder = Encoder(processor_with(READS[name]))
    assert not encoder.is_text_independent(conversation("a", "b"))


@pytest.mark.parametrize("name", PLAIN)
def test_template_that_only_outputs_texts_is_text_independent(name: str) -> None:
    encoder = Encoder(processor_with(PLAIN[name]))
    assert encoder.is_text_independent(conversation("a", "b"))
    assert encoder.is_text_independent(conversation("a", "b", "c", "d"))


@pytest.mark.parametrize("name", families(ARCHITECTURES))
def test_the_real_templates_are_text_independent_and_rendered_as_the_processor_renders(
    name: str,
) -> None:
    processor = loaded(name)
    encoder, prompts = Encoder(processor), PromptEncoder(processor)
    assert encoder.is_text_independent(conversation("a", "b")) and prompts.is_text_independent(
        conversation("a")
    )
    for row in pool(1):
        assert encoder.render(row)[0] == official(processor, row)


@pytest.mark.parametrize("answer", ["Yes.", "<think>\nIt may be.\n</think>\n\nNo."])
def test_text_removed_by_a_template_is_no_answer_token(answer: str) -> None:
    processor = processor_with(READS["thoughts cut by split"])
    text = Encoder(processor).encode([conversation("Is it?", answer)])[0]
    assert isinstance(text, EncodedText)
    assert (
        processor.tokenizer.decode([text.ids[p] for p in text.answer_positions])
        == answer.split("\n")[-1]
    )


def test_markers_if_the_answer_changes_other_words() -> None:
    decides = "{%- if 'cat' in text_of(messages[-1].content) -%}{{- 'cats\\n' -}}{%- endif -%}"
    processor = processor_with(turns("{{- text -}}", decides))
    rows = [
        conversation("What?", "A dog."),
        conversation("What?", "A cat."),
        conversation("What?", "Two cats."),
    ]
    texts = Encoder(processor).encode(rows)
    for row, text in zip(rows, texts, strict=True):
        assert isinstance(text, EncodedText)
        assert (
            processor.tokenizer.decode([text.ids[p] for p in text.answer_positions])
            == row.messages[-1].parts[0]
        )


@pytest.mark.parametrize("blank", ["", " ", "\n\n", "\u2003"])
def test_blank_texts_are_rendered(blank: str) -> None:
    """Trimming a blank text may also trim its neighbour."""
    template = turns("{{- ('\\n' ~ text) | trim -}}")
    processor = processor_with(template)
    first = Message("user", (None, blank, "  What? "))
    rows = [
        conversation(" Is it? ", "Yes."),
        Conversation((first, Message("assistant", (" A. ",))), (ImageRef("a", 1),)),
    ]
    for row, text in zip(rows, alone_and_in_company(processor, rows), strict=True):
        assert text[0] == processor.tokenizer(official(processor, row))["input_ids"]


def test_text_like_a_printed_list_does_not_affect_other_rows() -> None:
    odd = "[{'type': 'text', 'text': 'x'}]"
    processor = loaded("qwen2_5_vl")
    rows = [
        conversation(odd, "A.", system="Be brief."),
        conversation("Is it?", "Yes.", system="Be kind."),
    ]
    alone_and_in_company(processor, rows)


# ------------------------------------------------------------------------------------------- limits

MANY = "range(99999)"
ENDLESS = {
    "nested loops": (
        f"{{%- for a in {MANY} -%}}{{%- for b in {MANY} -%}}x{{%- endfor -%}}{{%- endfor -%}}"
    ),
    "loops that write nothing": (
        f"{{%- for a in {MANY} -%}}{{%- for b in {MANY} -%}}{{%- endfor -%}}{{%- endfor -%}}"
    ),
    "a macro that calls itself twice": (
        "{%- macro f(n) -%}{%- if n > 0 -%}{{- f(n - 1) -}}{{- f(n - 1) -}}{%- endif -%}{%- "
        "endmacro -%}{{- f(60) -}}"
    ),
    "a text that doubles": (
        "{%- set s = namespace(x='xxxxxxxx') -%}{%- for a in range(60) -%}{%- set s.x = s.x + s.x "
        "-%}{%- endfor -%}"
    ),
    "a block that doubles": (
        "{%- set s = namespace(x='xxxxxxxx') -%}{%- for a in range(60) -%}"
        "{%- set y -%}{{- s.x -}}{{- s.x -}}{%- endset -%}{%- set s.x = y -%}{%- endfor -%}"
    ),
    "a wide text": "{{- 'x' | center(9999999999) -}}",
    "a long text by operator": "{{- 'x' * 9999999999 -}}",
    "a wide format": "{{- '%9999999999d' % 1 -}}{{- '{:>9999999999}'.format('x') -}}",
    "a large power": "{{- 10 ** 9999999999 -}}",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_template_is_refused(name: str) -> None:
    processor = processor_with(ENDLESS[name] + turns("{{- text -}}"))
    start = time.process_time()
    with pytest.raises(ModelError, match="chat template"):
        ChatTemplate(processor, {})
    assert time.process_time() - start < 20


def test_row_that_exceeds_the_rendering_limit_fails_alone() -> None:
    body = "{%- if 'cat' in text -%}" + ENDLESS["nested loops"] + "{%- endif -%}{{- text -}}"
    encoder = Encoder(processor_with(turns(body)))
    texts = encoder.encode(
        [conversation("A dog?", "No."), conversation("A cat?", "Yes."), conversation("It?", "No.")]
    )
    assert [isinstance(t, EncodedText) for t in texts] == [True, False, True]
    assert "steps" in str(texts[1])


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("", "chat-template: the model's chat template refuses these turns: TemplateError"),
        ("No cats.", "chat-template: the model's chat template refuses these turns: No cats"),
    ],
)
def test_what_a_template_raises_is_the_reason_of_the_row(message: str, error: str) -> None:
    raises = f"{{%- if 'cat' in text -%}}{{{{ raise_exception('{message}') }}}}{{%- endif -%}}"
    encoder = Encoder(processor_with(turns(raises + "{{- text -}}")))
    texts = encoder.encode([conversation("A cat?", "Yes."), conversation("A dog?", "Yes.")])
    assert texts[0] == error and isinstance(texts[1], EncodedText)


@pytest.mark.parametrize(
    "template", ["{%- for m in messages -%}", ("{{ messages | no_such_filter }}"), "{{ 1 +* }}"]
)
def test_invalid_template_is_reported(template: str) -> None:
    with pytest.raises(ModelError, match="not valid Jinja"):
        Encoder(processor_with(template))
