"""Whether winnow's `trust=auto` recognises the pools that a model can judge.

Uses the pools of `benchmarks.suspects`: the proof's mixes with another seed, whose images the
built-in model reads, and random rows of easy_vqa, whose images it does not, with 0, 5, 15 and 30%
of the answers swapped.

    python -m benchmarks.judging [--easy-vqa FOLDER] [--rows 2000] [--seeds 3] [--store DIR]

"Likelier" is the share of sampled rows whose answer is more likely with the image than without: of
all sampled rows, and of those that are not suspected, on which `trust=auto` decides.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from benchmarks import suspects

from thresher.backends import ModelHandle, resolve
from thresher.engine import RunContext, create_engine
from thresher.methods.winnow import Winnow
from thresher.pools import Pool
from thresher.request import RunRequest
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.judgement import ImageSample, Judgement
from thresher.signals.part_loss import PartLoss
from thresher.signals.skills import skills_of
from thresher.storage.columns import Store

HEAD = """\
| pool | wrong rows | likelier, all | likelier, not suspected | bimodal skills, by rows | trust |
|---|---:|---:|---:|---:|---|"""


def line(name: str, pool: Pool, wrong: np.ndarray, model: ModelHandle, store: Store) -> str:
    """One line of the table. `wrong`: bool [n], of the pool."""
    defaults = Winnow()
    loss = AnswerLoss(model.identity)
    skills = skills_of(model.identity, defaults.leaves, defaults.layer)
    without = PartLoss(model.identity, ImageSample(), image=False)
    signals = {"loss": loss, "without": without, "judgement": Judgement(loss, without, skills)}
    engine = create_engine(pool, signals, RunRequest(), RunContext(store, model))
    columns = engine.columns(signals)
    engine.close()
    gain = columns["without"]["nll"] - columns["loss"]["nll"]
    gain = gain[np.isfinite(gain)]
    found = {field: values[0] for field, values in columns["judgement"].items()}
    trust = "base" if found["readable"] else "seed"
    return (
        f"| {name} | {wrong.mean():.0%} | {np.mean(gain > 0):.0%} | {found['helped']:.0%} | "
        f"{found['humped']:.0%} | {trust} |"
    )


def main() -> None:
    arguments = suspects.options(__doc__ or "")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        store = Store(arguments.store or out / "store")
        model = resolve("demo", cache=store.root / "models")
        print(HEAD, flush=True)
        for name, (pool, wrong), _ in suspects.pools(arguments, out):
            print(line(name, pool, wrong, model, store), flush=True)


if __name__ == "__main__":
    main()
