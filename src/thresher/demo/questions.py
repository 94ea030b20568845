"""Generates questions about a scene, with the correct answer, its evidence and candidate answers.

A question is abstract; styles.py adds wording and answer style. Text-only questions are in
plain_text.py, wrong answers in noise.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from thresher.demo import scenes
from thresher.demo.captions import caption
from thresher.demo.scenes import COLOURS, DIGITS, LETTERS, SHAPES, Scene, Split, Thing

YES_NO = ("yes", "no")
SIDES = ("left", "right", "above", "below")
POSITIONS = tuple(f"{row} {column}" for row in scenes.ROWS for column in scenes.COLUMNS)


@dataclass(frozen=True)
class Question:
    """A question about a scene. `topic` selects the wording and `slots` are its variables;
    `candidates` is empty for open answers (text, captions)."""

    kind: str
    topic: str
    scene: Scene
    answer: str
    candidates: tuple[str, ...] = ()
    evidence: str = ""
    slots: dict[str, str] = field(default_factory=dict)


Builder = Callable[[Random, Scene], Question | None]


def plural(name: str) -> str:
    return "crosses" if name == "cross" else f"{name}s"


def _unique(things: Sequence[Thing], attribute: str) -> list[Thing]:
    values = [getattr(t, attribute) for t in things]
    return [t for t in things if values.count(getattr(t, attribute)) == 1]


def _subjects(scene: Scene) -> list[Thing]:
    """The objects with a colour and shape: the shapes on the grid, or the large shape (as a
    Thing)."""
    if scene.large:
        return [Thing(0, 0, scene.large.name, scene.large.colour)]
    return [t for t in scene.things if len(t.name) > 1]


def _seen(scene: Scene, thing: Thing, what: str) -> str:
    return "" if scene.large else f"The {what} is at the {thing.position}."


def _colour(rng: Random, scene: Scene) -> Question | None:
    options = _unique(_subjects(scene), "name")
    if not options:
        return None
    t = rng.choice(options)
    candidates = scenes.LARGE_COLOURS if scene.large else COLOURS
    return Question(
        "colour", "colour", scene, t.colour, candidates, _seen(scene, t, t.name), {"name": t.name}
    )


def _shape(rng: Random, scene: Scene) -> Question | None:
    options = [t for t in _unique(scene.things, "colour") if len(t.name) > 1] or _subjects(scene)[
        : bool(scene.large)
    ]
    if not options:
        return None
    t = rng.choice(options)
    candidates = scenes.LARGE_SHAPES if scene.large else SHAPES
    evidence = _seen(scene, t, f"{t.colour} object")
    return Question("shape", "shape", scene, t.name, candidates, evidence, {"colour": t.colour})


def _position(rng: Random, scene: Scene) -> Question | None:
    options = _unique(scene.things, "phrase")
    if not options:
        return None
    t = rng.choice(options)
    slots = {"colour": t.colour, "name": t.name}
    return Question(
        "position", "position", scene, t.position, POSITIONS, f"I look for the {t.phrase}.", slots
    )


def _existence(rng: Random, scene: Scene) -> Question | None:
    subjects = _subjects(scene)
    if not subjects:
        return None
    present = sorted({(t.name, t.colour) for t in subjects})
    if rng.random() < 0.5:
        name, colour = rng.choice(present)
        where = next(t for t in subjects if (t.name, t.colour) == (name, colour))
        evidence = _seen(scene, where, where.phrase)
    else:
        # a shape and a colour that are both in the image, but not together
        near = rng.random() < 0.6
        name = rng.choice(
            [n for n, _ in present] if near else scenes.LARGE_SHAPES if scene.large else SHAPES
        )
        colour = rng.choice(
            [c for _, c in present] if near else scenes.LARGE_COLOURS if scene.large else COLOURS
        )
        if (name, colour) in present:
            return None
        evidence = f"I see no {colour} {name}."
    answer = "yes" if (name, colour) in present else "no"
    return Question(
        "existence", "existence", scene, answer, YES_NO, evidence, {"colour": colour, "name": name}
    )


def _count(rng: Random, scene: Scene) -> Question | None:
    subjects = _subjects(scene)
    if scene.large or not subjects:
        return None
    attribute = rng.choice(("name", "colour"))
    value, count = rng.choice(SHAPES if attribute == "name" else COLOURS), rng.randint(0, 4)
    found = [t for t in scene.things if getattr(t, attribute) == value]
    if len(found) != count:
        return None
    things = plural(value) if attribute == "name" else f"{value} objects"
    places = ", ".join(t.position for t in found)
    evidence = f"I see {things} at {places}." if found else f"I see no {things}."
    return Question(
        "count", "count", scene, str(count), tuple("01234"), evidence, {"things": things}
    )


def _spatial(rng: Random, scene: Scene) -> Question | None:
    options = _unique(scene.things, "phrase")
    if len(options) < 2:
        return None
    a, b = rng.sample(options, 2)
    # only the same row or the same column is unambiguous
    if (a.row != b.row) == (a.column != b.column):
        return None
    if a.row == b.row:
        answer = "left" if a.column < b.column else "right"
    else:
        answer = "above" if a.row < b.row else "below"
    evidence = f"The {a.phrase} is at the {a.position}. The {b.phrase} is at the {b.position}."
    return Question(
        "spatial",
        "spatial",
        scene,
        answer,
        SIDES,
        evidence,
        {"first": a.phrase, "second": b.phrase},
    )


def _comparison(rng: Random, scene: Scene) -> Question | None:
    names = [t.name for t in _subjects(scene)]
    kinds = sorted(set(names))
    if len(kinds) < 2:
        return None
    a, b = rng.sample(kinds, 2)
    if names.count(a) == names.count(b):
        return None
    first, second = plural(a), plural(b)
    answer = first if names.count(a) > names.count(b) else second
    evidence = f"{first}: {names.count(a)}, {second}: {names.count(b)}."
    slots = {"first": first, "second": second}
    return Question("comparison", "comparison", scene, answer, (first, second), evidence, slots)


def _written(kind: str, alphabet: tuple[str, ...]) -> Builder:
    def build(rng: Random, scene: Scene) -> Question | None:
        text = "".join(t.name for t in scene.things if len(t.name) == 1)
        if not text or any(c not in alphabet for c in text):
            return None
        first = next(t for t in scene.things if len(t.name) == 1)
        evidence = f"The text starts at the {first.position}."
        return Question(kind, kind, scene, text, (), evidence)

    return build


def _chart(rng: Random, scene: Scene) -> Question | None:
    if not scene.bars:
        return None
    evidence = ", ".join(f"{b.colour}: {b.height}" for b in scene.bars) + "."
    if rng.random() < 0.5:
        bar = rng.choice(scene.bars)
        values = tuple(str(h) for h in range(1, scenes.MAX_BAR + 1))
        return Question(
            "chart", "chart_value", scene, str(bar.height), values, evidence, {"colour": bar.colour}
        )
    extreme, pick = rng.choice((("highest", max), ("lowest", min)))
    bar = pick(scene.bars, key=lambda b: b.height)
    candidates = tuple(b.colour for b in scene.bars)
    return Question(
        "chart", "chart_extreme", scene, bar.colour, candidates, evidence, {"extreme": extreme}
    )


def _odd_one_out(rng: Random, scene: Scene) -> Question | None:
    subjects = _subjects(scene)
    if len(subjects) < 3 or len(subjects) != len(scene.things):
        return None
    for attribute, other, values in (("name", "colour", SHAPES), ("colour", "name", COLOURS)):
        odd = _unique(subjects, attribute)
        rest = [t for t in subjects if t not in odd]
        same = (
            len({getattr(t, attribute) for t in rest}) == 1
            and len({getattr(t, other) for t in subjects}) == 1
        )
        if len(odd) == 1 and same:
            answer = getattr(odd[0], attribute)
            evidence = f"Most are {getattr(rest[0], attribute)}."
            return Question("odd_one_out", "odd_one_out", scene, answer, values, evidence)
    return None


def _logic(rng: Random, scene: Scene) -> Question | None:
    present = sorted({t.phrase for t in _subjects(scene)})
    if len(present) < 2 or scene.large:
        return None
    absent = [f"{c} {s}" for c in COLOURS for s in SHAPES if f"{c} {s}" not in present]
    operator = rng.choice(("and", "or"))
    # which of the two is present, so that half of the answers are yes for either operator
    mixed = rng.choice(((True, False), (False, True)))
    if operator == "and":
        truths = (True, True) if rng.random() < 0.5 else rng.choice((mixed, mixed, (False, False)))
    else:
        truths = (False, False) if rng.random() < 0.5 else rng.choice((mixed, mixed, (True, True)))
    there, missing = rng.sample(present, 2), rng.sample(absent, 2)
    first, second = (there[k] if truths[k] else missing[k] for k in (0, 1))
    answer = "yes" if (all(truths) if operator == "and" else any(truths)) else "no"
    evidence = f"{first}: {YES_NO[not truths[0]]}, {second}: {YES_NO[not truths[1]]}."
    slots = {"first": first, "second": second, "operator": operator}
    return Question("logic", "logic", scene, answer, YES_NO, evidence, slots)


def _arithmetic(rng: Random, scene: Scene) -> Question | None:
    digits = [int(t.name) for t in scene.things if t.name in DIGITS]
    if len(digits) != 2:
        return None
    x, y = digits
    if rng.random() < 0.5:
        if x + y > 12:
            return None
        candidates = tuple(str(v) for v in range(2, 13))
        return Question("arithmetic", "sum", scene, str(x + y), candidates, f"I read {x} and {y}.")
    if x == y:
        return None
    return Question("arithmetic", "larger", scene, str(max(x, y)), DIGITS, f"I read {x} and {y}.")


def _description(rng: Random, scene: Scene) -> Question | None:
    return Question("description", "description", scene, caption(scene, places=False))


_BUILDERS: dict[str, tuple[Builder, tuple[Callable[[Random], Scene], ...]]] = {
    "colour": (_colour, (scenes.sample_shapes,)),
    "shape": (_shape, (scenes.sample_shapes,)),
    "position": (_position, (scenes.sample_shapes,)),
    "existence": (_existence, (scenes.sample_shapes,)),
    "count": (_count, (scenes.sample_shapes,)),
    "spatial": (_spatial, (lambda rng: scenes.sample_shapes(rng, 2, 3, distinct=True),)),
    "comparison": (_comparison, (lambda rng: scenes.sample_shapes(rng, 3, 5),)),
    "digits": (_written("digits", DIGITS), (lambda rng: scenes.sample_text(rng, DIGITS),)),
    "letters": (_written("letters", LETTERS), (lambda rng: scenes.sample_text(rng, LETTERS),)),
    "chart": (_chart, (scenes.sample_chart,)),
    "odd_one_out": (_odd_one_out, (scenes.sample_odd,)),
    "logic": (_logic, (lambda rng: scenes.sample_shapes(rng, 2, 4),)),
    "arithmetic": (_arithmetic, (lambda rng: scenes.sample_text(rng, DIGITS),)),
    "description": (
        _description,
        (scenes.sample_shapes, scenes.sample_shapes, scenes.sample_chart),
    ),
}
KINDS: tuple[str, ...] = tuple(k for k in _BUILDERS if k != "description")


def ask(rng: Random, kind: str, scene: Scene, attempts: int = 20) -> Question | None:
    """A random question about the given scene; None if the scene allows none.

    Arguments:
        rng: random number generator.
        kind: of question, one of KINDS or description.
        scene: that the question is about.
        attempts: how often to try, because a random choice may fail.
    """
    for _ in range(attempts):
        question = _BUILDERS[kind][0](rng, scene)
        if question is not None:
            return question
    return None


def sample_question(rng: Random, kind: str, split: Split) -> Question:
    """A random question about a new scene.

    Arguments:
        rng: random number generator.
        kind: of question, one of KINDS or description.
        split: of the scene.
    """
    while True:
        scene = scenes.sample_in_split(rng, split, rng.choice(_BUILDERS[kind][1]))
        question = ask(rng, kind, scene, attempts=4)
        if question is not None:
            return question
