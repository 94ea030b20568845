"""How pools, selections and differences show themselves in a notebook: counts, sources, notes and a handful of rows.

A piece of HTML with a style of its own and no script; colours come from the notebook, so that light and dark both work.
Reads at most ROWS records and as many images, whatever the size of the pool, and stays under 200 KB. Never raises: what
cannot be shown is said in words. Texts of the pool are data; the template escapes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from thresher.console.progress import counted
from thresher.report import page
from thresher.report.diff_report import label
from thresher.report.folder import of_outcome
from thresher.report.gallery import Card, Message, make_cards, plain_cards
from thresher.report.tally import draw, short
from thresher.selection.summary import failure_kinds, share

if TYPE_CHECKING:
    from thresher.api import Chosen
    from thresher.pools import Pool
    from thresher.report.diff import Difference

ROWS = 6
KEPT = 4  # of a selection's rows; half of them the best by rank
IMAGES = 2  # of a row
PICTURE_BYTES = 120_000  # of all thumbnails
SOURCES = 6
NOTES = 4
TEXT = 300  # characters of a note
SAID = 320  # characters of a message


@dataclass(frozen=True)
class Share:
    """A source: its share of the pool's rows, then of the kept where there are any. `bars`: percent of the longest bar."""

    name: str
    bars: tuple[float, ...]
    said: tuple[str, ...]


@dataclass(frozen=True)
class Look:
    """What is shown. `why_none`: why there are no rows, "" where there are."""

    title: str
    lead: str
    counts: tuple[tuple[str, str, str], ...]  # name, value, detail
    heads: tuple[str, ...] = ()
    sources: tuple[Share, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()  # the first row is its head
    notes: tuple[str, ...] = ()
    rows_lead: str = ""
    rows: tuple[Card, ...] = ()
    why_none: str = ""


def pool_html(pool: Pool) -> str:
    """A pool: rows, images, sources, problems, and a row of each of its largest sources."""
    return _shown(lambda: _pool(pool), pool)


def chosen_html(chosen: Chosen) -> str:
    """A selection that is in memory: what is kept, by what, and rows that were kept and that were not."""
    return _shown(lambda: _chosen(chosen), chosen)


def difference_html(difference: Difference) -> str:
    """Two selections: what they share, by source and by score."""
    return _shown(lambda: _difference(difference), difference)


def _shown(look: Callable[[], Look], what: object) -> str:
    try:
        style = Markup(page.asset("notebook.css"))
        return page.printable(page.environment().get_template("notebook.html.jinja").render(look=look(), style=style))
    except Exception as error:  # noqa: BLE001 - a cell that only shows something must not stop a notebook
        why = f"{type(error).__name__}: {error}"[:TEXT]
        return page.printable(str(Markup("<p>{}</p><p>It cannot be displayed: {}</p>").format(repr(what), why)))


# ---------------------------------------------------------------------------------------------- a pool


def _pool(pool: Pool) -> Look:
    index, facts = pool.index, pool.facts
    n, images = len(pool), len(index.image_path)
    missing = facts["missing_images"]
    bad = int(((index.problem >= 0) | missing).sum())
    counts = (
        ("Rows", f"{n:,}", f"in {counted(len(pool.sources), 'file')}"),
        ("Images", f"{images:,}", f"shown in {counted(int((facts['images'] > 0).sum()))}"),
        ("Sources", f"{len(pool.source_names):,}", ""),
        ("Problems", counted(bad) if bad else "none", "`thresher doctor` explains" if bad else "that reading shows"),
    )
    by_kind: Counter[str] = Counter()
    for text, code in zip(index.problem_texts, range(len(index.problem_texts)), strict=True):
        by_kind[text.partition(":")[0]] += int((index.problem == code).sum())
    notes = [f"{counted(number)}: {kind}" for kind, number in sorted(by_kind.items(), key=lambda k: (-k[1], k[0]))]
    if missing.any():
        notes.append(f"{counted(int(missing.sum()))}: an image that does not exist")
    notes += pool.notes
    rows, why = _rows(lambda: _some_of(pool))
    lead = f"{pool.format}, images in {pool.images_folder}" if images else f"{pool.format}, no images"
    said = "A few rows, one of each of the largest sources." if len(pool.source_names) > 1 else "A few rows."
    return Look(_name(pool), lead, counts, ("of rows",), _sources(pool, None), (), _cut(notes), said, tuple(rows), why)


def _some_of(pool: Pool) -> list[Card]:
    """The first row, by digest, of each of the largest sources, then others; the last is one with a problem, if any is."""
    order, by_digest = pool.order, pool.source[pool.order]
    found = [int(order[np.argmax(by_digest == source)]) for source in _largest(pool)]
    found += order[np.linspace(0, len(order), ROWS, endpoint=False).astype(np.int64)].tolist() if len(order) else []
    found = list(dict.fromkeys(found))[:ROWS]
    bad = order[pool.index.problem[order] >= 0]
    if len(bad) and not any(pool.index.problem[row] >= 0 for row in found):
        found[-1] = int(bad[0])
    rows = np.array(found, np.int64)
    return plain_cards(pool, rows, pool.samples(rows), IMAGES, PICTURE_BYTES)


# ---------------------------------------------------------------------------------------------- a selection


def _chosen(chosen: Chosen) -> Look:
    outcome, pool, recipe = chosen.outcome, chosen.pool, chosen.outcome.recipe
    n, k = len(pool), len(outcome.rows)
    facts = pool.facts
    words, all_words = int(facts["answer_words"][outcome.rows].sum()), int(facts["answer_words"].sum())
    images, all_images = int(facts["images"][outcome.rows].sum()), int(facts["images"].sum())
    scored = sum(s.scored for s in outcome.signals)
    counts = [
        ("Rows kept", share(k, n), f"{k:,} of {n:,}"),
        ("Answer words", share(words, all_words), f"{words:,} of {all_words:,}"),
        ("Images shown", share(images, all_images), f"{images:,} of {all_images:,}"),
    ]
    if outcome.excluded:
        counts.append(("Left out", f"{outcome.excluded:,}", "could not be used"))
    if outcome.signals:
        counts.append(
            ("Scored now", f"{scored:,}", f"{sum(s.reused + s.elsewhere for s in outcome.signals):,} from the store")
        )
    why_left_out = [f"{counted(len(kind))} left out: {kind[0].error}" for kind in failure_kinds(outcome.failures)[:2]]
    said_above = f"{outcome.excluded:,} of {n:,} rows could not be used"
    notes = why_left_out + [note for note in outcome.notes if not note.startswith(said_above)]
    rows, why = _rows(lambda: _kept_and_not(chosen))
    said = "The best by rank, some other kept rows, and some that were not kept."
    lead = f"{recipe.method}{_settings(chosen)}, budget {recipe.budget}, seed {recipe.seed}" + (
        f", model {recipe.model}" if recipe.model else ""
    )
    kept = np.bincount(pool.source[outcome.rows], minlength=len(pool.source_names))
    return Look(
        f"{k:,} of {n:,} rows of {_name(pool)} kept",
        lead,
        tuple(c for c in counts if c[1] != "-"),
        ("pool", "kept"),
        _sources(pool, kept),
        (),
        _cut(notes),
        said,
        tuple(rows),
        why,
    )


def _settings(chosen: Chosen) -> str:
    """The settings that the user gave."""
    return "".join(f" {key}={value}" for key, value in chosen.config.settings.items())


def _kept_and_not(chosen: Chosen) -> list[Card]:
    made = of_outcome(chosen.outcome, chosen.pool)
    kept = made.kept_rows
    best = kept[: KEPT // 2]
    others = draw(made, kept[len(best) :], KEPT - len(best))
    dropped = draw(made, made.rows[~made.kept], ROWS - len(best) - len(others))
    rows = np.concatenate([best, others, dropped]).astype(np.int64)
    return make_cards(made, rows, images=IMAGES, picture_bytes=PICTURE_BYTES)


# ---------------------------------------------------------------------------------------------- two selections


def _difference(d: Difference) -> Look:
    n_a, n_b, both = len(d.only_a) + len(d.both), len(d.only_b) + len(d.both), len(d.both)
    chance = "" if d.by_chance is None else f"two random samples would share about {d.by_chance:,.0f}"
    counts = (
        ("In both", f"{both:,}", f"{share(both, n_a)} of A, {share(both, n_b)} of B"),
        ("Only A", f"{len(d.only_a):,}", f"of {n_a:,}"),
        ("Only B", f"{len(d.only_b):,}", f"of {n_b:,}"),
    )
    table: list[tuple[str, ...]] = [("Rows by source", "only A", "both", "only B")]
    table += [(short(c.name), f"{c.only_a:,}", f"{c.both:,}", f"{c.only_b:,}") for c in d.sources[:SOURCES]]
    if len(d.sources) > SOURCES:
        rest = d.sources[SOURCES:]
        sums = [sum(numbers) for numbers in zip(*((c.only_a, c.both, c.only_b) for c in rest), strict=True)]
        table.append((f"{len(rest)} smaller sources", *(f"{number:,}" for number in sums)))
    for s in d.scores:
        medians = ("none" if v is None else f"{v:.3g}" for v in (s.only_a, s.both, s.only_b))
        table.append((f"median of {s.brief} ({s.of})", *medians))
    title = f"A: {label(d.a, d.b)}. B: {label(d.b, d.a)}"
    return Look(title, chance.capitalize(), counts, table=tuple(table))


# ---------------------------------------------------------------------------------------------- parts


def _rows(make: Callable[[], list[Card]]) -> tuple[list[Card], str]:
    """The rows, or why they cannot be shown: the counts beside them are known without the pool's files."""
    try:
        return [_brief(card) for card in make()], ""
    except Exception as error:  # noqa: BLE001 - a pool whose file is gone can still be counted
        return [], f"The rows cannot be displayed: {error}"[:TEXT]


def _brief(card: Card) -> Card:
    """The first question and its answer, cut; how many messages are not shown."""
    told = [m for m in card.messages if m.role != "System"][:2]
    more = len(card.messages) + card.more_messages - len(told)
    short_ones = tuple(
        Message(m.role, m.text[:SAID], m.cut or (len(m.text) if len(m.text) > SAID else 0)) for m in told
    )
    return replace(card, messages=short_ones, more_messages=more)


def _largest(pool: Pool) -> list[int]:
    """Numbers of the largest sources, at most SOURCES, largest first."""
    counts = np.bincount(pool.source, minlength=len(pool.source_names))
    return [i for i in np.argsort(-counts, kind="stable")[:SOURCES].tolist() if counts[i]]


def _sources(pool: Pool, kept: np.ndarray | None) -> tuple[Share, ...]:
    """The largest sources and, in one line, all others; none where there is only one. `kept`: rows of each source."""
    names, counts = pool.source_names, np.bincount(pool.source, minlength=len(pool.source_names))
    if len(names) < 2:
        return ()
    largest = _largest(pool)
    groups = [(short(names[i]) or "(none)", [i]) for i in largest]
    rest = np.setdiff1d(np.flatnonzero(counts), largest)
    if len(rest):
        groups.append((f"{len(rest):,} smaller", rest.tolist()))
    before = np.array([counts[of].sum() for _, of in groups])
    after = None if kept is None else np.array([kept[of].sum() for _, of in groups])
    parts = [(before, len(pool))] + ([] if after is None else [(after, int(after.sum()))])
    top = max(rows.max() / max(whole, 1) for rows, whole in parts) or 1.0
    return tuple(
        Share(
            name,
            tuple(float(100 * rows[i] / max(whole, 1) / top) for rows, whole in parts),
            tuple(share(int(rows[i]), whole) for rows, whole in parts),
        )
        for i, (name, _) in enumerate(groups)
    )


def _cut(notes: list[str]) -> tuple[str, ...]:
    """At most NOTES of at most TEXT characters."""
    told = [note if len(note) <= TEXT else note[: TEXT - 1] + "…" for note in notes[:NOTES]]
    if len(notes) > NOTES:
        told.append(f"and {len(notes) - NOTES} more")
    return tuple(told)


def _name(pool: Pool) -> str:
    """The file's name, or what opens the pool where that is short."""
    return (pool.path.name if len(pool.sources) == 1 else pool.spec)[:120] or "a pool"
