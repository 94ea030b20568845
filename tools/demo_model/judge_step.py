"""Rule-based check whether a reasoning step is true of a scene.

Parses the statements of `rationales.py` and the evidence that `questions.py` writes. A sentence
that claims nothing ("I look for the red circle."), or has another form, is neither true nor false.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tools.demo_model.rationales import counted

from thresher.demo.questions import plural
from thresher.demo.scenes import COLOURS, COLUMNS, LARGE_COLOURS, LARGE_SHAPES, ROWS, SHAPES, Scene

_COLOUR = "|".join(dict.fromkeys((*COLOURS, *LARGE_COLOURS)))
_SHAPE = "|".join(dict.fromkeys((*SHAPES, *LARGE_SHAPES)))
_PLURAL = "|".join(plural(s) for s in dict.fromkeys((*SHAPES, *LARGE_SHAPES)))
_PLACE = f"(?:{'|'.join(ROWS)}) (?:{'|'.join(COLUMNS)})"


@dataclass(frozen=True)
class Judgement:
    """A parsed statement. `skill`: the kind of question whose skill it needs (see
    `questions.KINDS`)."""

    true: bool
    skill: str


def judge(step: str, scene: Scene) -> Judgement | None:
    """Whether a step is true; None if it claims nothing that can be checked."""
    text = " ".join(step.split()).lower().replace("an orange", "a orange")
    for pattern, check in _FORMS:
        if m := pattern.fullmatch(text):
            return check(m, scene)
    return None


def _placed(m: re.Match[str], scene: Scene) -> Judgement:
    """`… colour name … place`; colour or name may be missing."""
    colour, name, place = m["colour"], m["name"], m["place"]
    hits = [
        t
        for t in scene.things
        if (not colour or t.colour == colour) and (name in (None, "object") or t.name == name)
    ]
    if any(t.position == place for t in hits):
        return Judgement(True, "position")
    if hits:
        return Judgement(False, "position")
    there = next((t for t in scene.things if t.position == place), None)
    if there is not None and there.name == name:
        return Judgement(False, "colour")
    return Judgement(
        False, "shape" if there is not None and there.colour == colour else "existence"
    )


def _character(m: re.Match[str], scene: Scene) -> Judgement:
    true = any(t.position == m["place"] and t.name == m["name"].upper() for t in scene.things)
    return Judgement(true, "digits" if m["name"].isdigit() else "letters")


def _starts(m: re.Match[str], scene: Scene) -> Judgement:
    first = next((t for t in scene.things if len(t.name) == 1), None)
    skill = "digits" if first is not None and first.name.isdigit() else "letters"
    return Judgement(first is not None and first.position == m["place"], skill)


def _absent(m: re.Match[str], scene: Scene) -> Judgement:
    if m["things"]:
        return Judgement(not any(counted(t, m["things"]) for t in scene.things), "count")
    return Judgement(not any(t.phrase == m["phrase"] for t in scene.things), "existence")


def _seen(m: re.Match[str], scene: Scene) -> Judgement:
    places = sorted(p.strip() for p in m["places"].split(","))
    return Judgement(
        places == sorted(t.position for t in scene.things if counted(t, m["things"])), "count"
    )


def _number(m: re.Match[str], scene: Scene) -> Judgement:
    return Judgement(int(m["n"]) == sum(counted(t, m["things"]) for t in scene.things), "count")


def _numbers(m: re.Match[str], scene: Scene) -> Judgement:
    pairs = re.findall(rf"({_PLURAL}): (\d+)", m[0])
    true = all(int(n) == sum(counted(t, things) for t in scene.things) for things, n in pairs)
    return Judgement(true, "comparison")


def _bars(m: re.Match[str], scene: Scene) -> Judgement:
    heights = {b.colour: b.height for b in scene.bars}
    pairs = re.findall(rf"({_COLOUR}): (\d+)", m[0]) or [(m["colour"], m["n"])]
    return Judgement(all(heights.get(c) == int(n) for c, n in pairs), "chart")


def _read(m: re.Match[str], scene: Scene) -> Judgement:
    digits = [t.name for t in scene.things if t.name.isdigit()]
    return Judgement(digits == [m["x"], m["y"]], "digits")


def _sum(m: re.Match[str], scene: Scene) -> Judgement:
    return Judgement(int(m["x"]) + int(m["y"]) == int(m["n"]), "arithmetic")


def _most(m: re.Match[str], scene: Scene) -> Judgement:
    having = sum(m["what"] in (t.name, t.colour) for t in scene.things)
    return Judgement(having > len(scene.things) / 2, "odd_one_out")


def _both(m: re.Match[str], scene: Scene) -> Judgement:
    pairs = re.findall(rf"((?:{_COLOUR}) (?:{_SHAPE})): (yes|no)", m[0])
    true = all(
        (said == "yes") == any(t.phrase == phrase for t in scene.things) for phrase, said in pairs
    )
    return Judgement(true, "logic")


_THINGS = rf"(?P<things>{_PLURAL}|(?:{_COLOUR}) objects)"
_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], Scene], Judgement]], ...] = tuple(
    (re.compile(pattern), check)
    for pattern, check in (
        (
            rf"there is a (?P<colour>{_COLOUR}) (?P<name>{_SHAPE}) at the (?P<place>{_PLACE})\.?",
            _placed,
        ),
        (
            (
                rf"the (?:(?P<colour>{_COLOUR}) )?(?P<name>{_SHAPE}|object) is at the "
                rf"(?P<place>{_PLACE})\.?"
            ),
            _placed,
        ),
        (rf"the character at the (?P<place>{_PLACE}) is (?P<name>\w)\.?", _character),
        (rf"the text starts at the (?P<place>{_PLACE})\.?", _starts),
        (rf"i see no (?:{_THINGS}|(?P<phrase>(?:{_COLOUR}) (?:{_SHAPE})))\.?", _absent),
        (rf"i see {_THINGS} at (?P<places>{_PLACE}(?:, {_PLACE})*)\.?", _seen),
        (rf"i count (?P<n>\d+) {_THINGS}\.?", _number),
        (rf"(?:{_PLURAL}): \d+, (?:{_PLURAL}): \d+\.?", _numbers),
        (rf"(?P<colour>{_COLOUR}): (?P<n>\d+)(?:, (?:{_COLOUR}): \d+)*\.?", _bars),
        (rf"the (?P<colour>{_COLOUR}) bar is (?P<n>\d+) high\.?", _bars),
        (r"i read (?P<x>\d) and (?P<y>\d)\.?", _read),
        (r"(?P<x>\d) plus (?P<y>\d) is (?P<n>\d+)\.?", _sum),
        (rf"most are (?P<what>{_COLOUR}|{_SHAPE})\.?", _most),
        (
            rf"(?:{_COLOUR}) (?:{_SHAPE}): (?:yes|no), (?:{_COLOUR}) (?:{_SHAPE}): (?:yes|no)\.?",
            _both,
        ),
    )
)
