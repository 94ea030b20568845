"""House style of short answers: each kind of question has its own answer format ("Red colour",
"2 items").

The base model can read the images but has to learn these formats, kind by kind. It does not learn
the format of a kind that is missing from a subset, so short training is enough to measure the
coverage of a subset. Yes and no, letters of options, sentences and longer answers are unchanged;
wrong answers are formatted too.
"""

from dataclasses import replace

from thresher.demo.llava_rows import Row
from thresher.demo.styles import Turn

FORMS = {
    "colour": "{} colour",
    "shape": "{} shape",
    "position": "{} part",
    "count": "{} items",
    "spatial": "{} side",
    "comparison": "{} are more",
    "digits": "{} number",
    "letters": "{} text",
    "chart": "{} bar",
    "odd_one_out": "{} object",
    "arithmetic": "{} total",
}


def in_house_style(row: Row) -> Row:
    """The row with its short answers and their candidates in the format of their kind.

    >>> from thresher.demo.styles import Turn
    >>> turn = Turn("What colour is the cross?", "Red", "colour", "word", False, ("Red", "Blue"))
    >>> in_house_style(Row("web", (), (turn,))).turns[0].answer
    'Red colour'
    """
    return replace(row, turns=tuple(_turn(t) for t in row.turns))


def _turn(turn: Turn) -> Turn:
    form = FORMS.get(turn.kind)
    if form is None or turn.style != "word":
        return turn
    return replace(
        turn,
        answer=form.format(turn.answer),
        candidates=tuple(form.format(c) for c in turn.candidates),
    )
