"""Near duplicates in the pool, and rows of it that occur in an evaluation set."""

from __future__ import annotations

from collections import Counter

import numpy as np

from thresher.console.progress import Progress
from thresher.doctor.findings import Findings
from thresher.duplicates import check_contamination, only_exact_note, unchecked_note
from thresher.duplicates import image as image_signatures
from thresher.duplicates import text as minhash
from thresher.duplicates.groups import near_groups
from thresher.duplicates.signals import combined_content_hash, role_order_hash
from thresher.errors import MissingExtra, opt
from thresher.pools import Pool

BATCH_ROWS = 4096  # rows at once


def find_near_duplicates(
    pool: Pool,
    findings: Findings,
    images: list[image_signatures.ImageSignature | None],
    progress: Progress,
) -> None:
    """Add rows that nearly repeat an earlier one, except exact copies, which are reported
    separately.

    Arguments:
        pool: the pool.
        findings: where to add them.
        images: [m] signatures of the pool's image table; None: not read.
        progress: displays the rows done.
    """
    index = pool.index
    rows = np.flatnonzero(index.problem < 0)
    has_signature = np.array([signature is not None for signature in images] + [True])
    rows_without_signature = pool.image_ref_rows()[~has_signature[index.image_ref]]
    rows = rows[~np.isin(rows, rows_without_signature)]
    try:
        texts = _texts(pool, rows, progress)
    except MissingExtra as missing:
        findings.note(f"Near duplicates were not searched for. {missing.message}")
        return
    if len(rows_without_signature) and not any(signature is not None for signature in images):
        findings.note(
            "Near duplicates among rows with images were not searched for: no image signature "
            "could be computed."
        )
    label = near_groups(texts, _image_columns(pool, rows, images))
    first_row = np.full(int(label.max(initial=-1)) + 1, len(pool), np.int64)
    np.minimum.at(first_row, label, rows)
    original = first_row[label]
    copies = (rows != original) & ~np.isin(
        rows, findings.rows.get("duplicate-row", np.zeros(0, np.int64))
    )
    original_of = dict(zip(rows[copies].tolist(), original[copies].tolist(), strict=True))
    findings.add("near-duplicate", rows[copies], lambda row: f"nearly row {original_of[row]}")


def find_eval_leaks(
    pool: Pool, findings: Findings, name: str, evaluation: Pool, progress: Progress
) -> None:
    """Add rows that repeat a question of `evaluation`; notes say which rows could not be compared,
    and if only exact copies can be found.

    Arguments:
        pool: the pool.
        findings: where to add them.
        name: of the evaluation set, for messages.
        evaluation: the evaluation set.
        progress: displays the rows done.
    """
    missing = evaluation.facts["missing_images"]
    if missing.any():
        findings.note(
            f"{int(missing.sum()):,} of {len(evaluation):,} rows of {name} name images that are "
            f"not in {evaluation.images_named}: they were not compared, so leaks of them are not "
            f"found. Give the folder that their paths start from: {opt('eval_images')}."
        )
    checked = check_contamination(pool, evaluation, near=None, progress=progress)
    leaks = {leak.row: leak for leak in checked.found}
    others = {row: why for row, why in checked.other_unchecked.items() if not missing[row]}
    for note in (
        unchecked_note(checked.unchecked, len(pool), "the pool"),
        unchecked_note(others, len(evaluation), name),
    ):
        if note:
            findings.note(note)
    rows = np.fromiter(leaks, np.int64, len(leaks))
    findings.add(
        "eval-leak", rows, lambda row: f"{leaks[row].kind}: row {leaks[row].other_row} of {name}"
    )
    if leaks:
        kinds = Counter(leak.kind for leak in leaks.values())
        counts = ", ".join(f"{n:,} {kind}" for kind, n in sorted(kinds.items()))
        repeat = "row repeats" if len(leaks) == 1 else "rows repeat"
        findings.note(
            f"{len(leaks):,} {repeat} questions of {name} ({len(evaluation):,} rows): {counts}."
        )
    if unchecked := only_exact_note():
        findings.note(unchecked)


def _texts(pool: Pool, rows: np.ndarray, progress: Progress) -> dict[str, np.ndarray]:
    """Fields of `TextMinhash`, [m]."""
    questions, answers = [minhash.signatures([])], [minhash.signatures([])]
    roles: list[bytes] = []
    progress.start("comparing texts", len(rows), 0)
    try:
        for start in range(0, len(rows), BATCH_ROWS):
            samples = pool.samples(rows[start : start + BATCH_ROWS])
            questions.append(
                minhash.signatures(minhash.text_of(s, "system", "user", "unknown") for s in samples)
            )
            answers.append(minhash.signatures(minhash.text_of(s, "assistant") for s in samples))
            roles += map(role_order_hash, samples)
            progress.advance(len(samples))
    finally:
        progress.finish()
    signatures = {"question": np.concatenate(questions), "answer": np.concatenate(answers)}
    return {
        "roles": np.array(roles, "S8"),
        **{name: minhash.as_bytes(s) for name, s in signatures.items()},
    }


def _image_columns(
    pool: Pool, rows: np.ndarray, images: list[image_signatures.ImageSignature | None]
) -> dict[str, np.ndarray]:
    """Fields of `ImageHash`, [m]."""
    end, ref = pool.index.image_end, pool.index.image_ref
    by_row = []
    for row in rows.tolist():
        numbers = ref[int(end[row - 1]) if row else 0 : int(end[row])].tolist()
        by_row.append(
            [signature for signature in (images[i] for i in numbers) if signature is not None]
        )
    return {
        "images": np.array([len(signatures) for signatures in by_row], np.int32),
        "content": np.array([combined_content_hash(signatures) for signatures in by_row], "S16"),
        "first": np.array(
            [signatures[0].mark if signatures else b"" for signatures in by_row],
            f"S{image_signatures.PERCEPTUAL.itemsize}",
        ),
        "others": np.array(
            [
                "".join(signature.mark.hex() for signature in signatures[1:])
                for signatures in by_row
            ],
            object,
        ),
    }
