"""Values into the `{places}` of a prompt, all at once, so that braces inside a value stay as they
are."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PLACE = re.compile(r"\{(\w+)\}")


def fill(template: str, values: Mapping[str, object]) -> str:
    """Raises KeyError for a place without a value: a prompt of ours is broken.

    >>> fill("Q: {question} A:", {"question": "what is {x}?"})
    'Q: what is {x}? A:'
    """
    return _PLACE.sub(lambda m: str(values[m[1]]), template)
