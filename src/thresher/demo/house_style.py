"""The pool's own way to write short answers: each kind of question has a form of its own ("Red
colour", "2 items").

A base that knows what a picture shows has these forms to learn, kind by kind, as a model that is
tuned for a house has its report formats to learn. A kind that a subset leaves out stays unlearnt,
so that what a subset covers can be measured after short training. Yes and no, letters of options,
sentences and longer answers stay as they are; wrong answers get the form, too.
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
    """The row with its short answers (and their candidates) in the form of their kind.

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
