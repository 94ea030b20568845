"""Near duplicates inside the pool, and rows of it that stand in an evaluation set."""

from __future__ import annotations

from collections import Counter

import numpy as np

from thresher.console.progress import Progress
from thresher.doctor.findings import Findings
from thresher.duplicates import find_contamination, only_exact_note
from thresher.duplicates import image as image_signatures
from thresher.duplicates import text as minhash
from thresher.duplicates.groups import near_groups
from thresher.duplicates.signals import combined_content_hash, role_order_hash
from thresher.errors import MissingExtra
from thresher.pools import Pool

READ = 4096  # rows at once


def look_for_copies(
    pool: Pool,
    found: Findings,
    images: list[image_signatures.ImageSignature | None],
    progress: Progress,
) -> None:
    """`images`: what each image of the pool's table looks like. Exact copies have been told of and
    are not told again."""
    index = pool.index
    rows = np.flatnonzero(index.problem < 0)
    known = np.array([look is not None for look in images] + [True])
    bad = pool.image_ref_rows()[~known[index.image_ref]]
    rows = rows[~np.isin(rows, bad)]
    try:
        texts = _texts(pool, rows, progress)
    except MissingExtra as missing:
        found.notes.append(f"Near duplicates were not looked for. {missing}")
        return
    if len(bad) and not any(look is not None for look in images):
        found.notes.append(
            "Near duplicates among rows with images were not looked for: no image could be "
            "described."
        )
    label = near_groups(texts, _image_columns(pool, rows, images))
    first = np.full(int(label.max(initial=-1)) + 1, len(pool), np.int64)
    np.minimum.at(first, label, rows)
    original = first[label]
    copies = (rows != original) & ~np.isin(
        rows, found.rows.get("duplicate-row", np.zeros(0, np.int64))
    )
    of = dict(zip(rows[copies].tolist(), original[copies].tolist(), strict=True))
    found.add("near-duplicate", rows[copies], lambda row: f"nearly row {of[row]}")


def look_for_leaks(pool: Pool, found: Findings, name: str, other: Pool, progress: Progress) -> None:
    """Rows that repeat a question of `other`; a note says where only exact copies can be found."""
    lacking = int(other.facts["missing_images"].sum())
    if lacking:
        found.notes.append(
            f"{lacking:,} of {len(other):,} rows of {name} name images that are not in "
            f"{other.images_folder}: they were compared with nothing, so a leak of them is not "
            "seen. Give the folder that their paths start from with --eval-images."
        )
    leaks = {
        leak.row: leak for leak in find_contamination(pool, other, near=None, progress=progress)
    }
    rows = np.fromiter(leaks, np.int64, len(leaks))
    found.add(
        "eval-leak", rows, lambda row: f"{leaks[row].kind}: row {leaks[row].other_row} of {name}"
    )
    if leaks:
        kinds = Counter(leak.kind for leak in leaks.values())
        parts = ", ".join(f"{n:,} {kind}" for kind, n in sorted(kinds.items()))
        repeat = "row repeats" if len(leaks) == 1 else "rows repeat"
        found.notes.append(
            f"{len(leaks):,} {repeat} questions of {name} ({len(other):,} rows): {parts}."
        )
    if unchecked := only_exact_note():
        found.notes.append(unchecked)


def _texts(pool: Pool, rows: np.ndarray, progress: Progress) -> dict[str, np.ndarray]:
    """Fields of `TextMinhash`, [m]."""
    asked, answered = [minhash.signatures([])], [minhash.signatures([])]
    roles: list[bytes] = []
    progress.start("comparing texts", len(rows), 0)
    try:
        for start in range(0, len(rows), READ):
            samples = pool.samples(rows[start : start + READ])
            asked.append(
                minhash.signatures(minhash.text_of(s, "system", "user", "unknown") for s in samples)
            )
            answered.append(minhash.signatures(minhash.text_of(s, "assistant") for s in samples))
            roles += map(role_order_hash, samples)
            progress.advance(len(samples))
    finally:
        progress.finish()
    signatures = {"question": np.concatenate(asked), "answer": np.concatenate(answered)}
    return {
        "roles": np.array(roles, "S8"),
        **{name: minhash.as_bytes(s) for name, s in signatures.items()},
    }


def _image_columns(
    pool: Pool, rows: np.ndarray, images: list[image_signatures.ImageSignature | None]
) -> dict[str, np.ndarray]:
    """Fields of `ImageHash`, [m]."""
    end, ref = pool.index.image_end, pool.index.image_ref
    of_row = []
    for row in rows.tolist():
        numbers = ref[int(end[row - 1]) if row else 0 : int(end[row])].tolist()
        of_row.append([look for look in (images[i] for i in numbers) if look is not None])
    return {
        "images": np.array([len(some) for some in of_row], np.int32),
        "content": np.array([combined_content_hash(some) for some in of_row], "S16"),
        "first": np.array(
            [some[0].mark if some else b"" for some in of_row],
            f"S{image_signatures.PERCEPTUAL.itemsize}",
        ),
        "others": np.array(
            ["".join(look.mark.hex() for look in some[1:]) for some in of_row], object
        ),
    }
