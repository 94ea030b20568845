"""Computes the missing cells of one pool and one stage; finished cells are reused.

python -m benchmarks.real.work --base FOLDER --pool mixed --stage epochs [options of proof.py]
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

from thresher.backends.hf.threads import limit_idle_threads

limit_idle_threads()

from benchmarks.proof.asking import Ask  # noqa: E402
from benchmarks.real import arms  # noqa: E402
from benchmarks.real.places import (  # noqa: E402
    DATA,
    cache_folder,
    data_folder,
    outside_repository,
)
from benchmarks.real.pools import HALVES, POOLS, World, make_world  # noqa: E402

from thresher.backends import ModelHandle, resolve  # noqa: E402
from thresher.compare import Comparison, Job, compare  # noqa: E402
from thresher.engine import RunContext  # noqa: E402
from thresher.pools import Pool, open_pool  # noqa: E402
from thresher.storage.atomic import write_bytes  # noqa: E402
from thresher.storage.columns import Store  # noqa: E402
from thresher.training.registry import make_trainer  # noqa: E402


def options(description: str) -> argparse.ArgumentParser:
    """The options of all commands of the proof."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--out", type=Path, default=cache_folder())
    parser.add_argument("--data", type=Path, default=DATA, help="contains real/")
    parser.add_argument("--base", type=Path, help="default: the one base below --out")
    parser.add_argument("--half", choices=HALVES, default="evaluation", help="of the questions")
    parser.add_argument("--seeds", type=int, default=arms.SEEDS)
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="of the trainings; auto: bf16 on a GPU only",
    )
    parser.add_argument("--methods", help="only these, separated by commas")
    parser.add_argument("--budgets", help="only these; 100%%: training on the full pool")
    parser.add_argument("--rows", type=int, help="a trial: only so many rows of the pool")
    parser.add_argument("--questions", type=int, help="a trial: only so many questions")
    return parser


def world_of(a: argparse.Namespace) -> World:
    """Settles a.out, a.base, a.methods and a.budgets; writes missing pools."""
    a.out = outside_repository(a.out)
    a.base = (a.base or find_base(a.out)).expanduser().resolve()
    a.data = a.data.expanduser().resolve()
    if not (a.base / "config.json").exists():
        sys.exit(f"--base {a.base} is not the folder of a model. Run `make real-base` first.")
    a.methods = _some("--methods", a.methods, tuple(arms.METHODS))
    a.budgets = _some("--budgets", a.budgets, arms.BUDGETS)
    if a.budgets == (arms.FULL_POOL,):
        sys.exit("--budgets 100%: give the budget of the subsets too, such as 10%,100%.")
    return make_world(data_folder(a.data, "real"), a.out / "world", a.rows)


def _some(option: str, given: str | None, known: tuple[str, ...]) -> tuple[str, ...] | None:
    """The names of a list separated by commas; exits with a message if one is unknown."""
    if given is None:
        return None
    names = tuple(given.split(","))
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"{option}: {', '.join(unknown)} is not one of {', '.join(known)}.")
    return names


def find_base(out: Path) -> Path:
    """The one trained base below `out`; exits with a message if there is none or several."""
    found = sorted(f.parent / "model" for f in out.glob("base-*/README.json"))
    if len(found) != 1:
        names = ", ".join(map(str, found)) or "none"
        sys.exit(
            f"Expected one trained base below {out}, found {names}. Run `make real-base`, "
            "or choose one with --base."
        )
    return found[0]


def opened(a: argparse.Namespace, world: World, pool: str) -> tuple[Pool, Pool]:
    """The pool and the questions."""
    questions = world.questions[a.half]
    if a.questions is not None:
        questions = fewer_questions(questions, a.questions)
    return open_pool(world.pools[pool], world.images), open_pool(questions, world.images)


def fewer_questions(file: Path, count: int) -> Path:
    """A file with `count` random rows of `file`."""
    fewer = file.with_name(f"{file.stem}-{count}.json")
    rows = Random(0).sample(json.loads(file.read_text("utf-8")), count)
    write_bytes(fewer, json.dumps(rows).encode())
    return fewer


def store_of(a: argparse.Namespace, pool: str) -> Store:
    return Store(a.out / "store" / pool)  # a store for each pool: workers share nothing


def base_of(a: argparse.Namespace, store: Store) -> ModelHandle:
    return resolve(str(a.base), device=device(), cache=store.root / "models")


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def cells_of(a: argparse.Namespace, pool: str) -> Path:
    """The folder of a pool's cells."""
    return a.out / "proof" / a.half / pool


def job_of(
    a: argparse.Namespace, stage: arms.Stage, pool: Pool, questions: Pool, model: ModelHandle
) -> Job:
    """The comparison of a stage on a pool, restricted as the options say."""
    recipe = replace(arms.RECIPE, precision=a.precision)
    return arms.job_of(pool, questions, stage, model, a.seeds, a.methods, a.budgets, recipe)


def compute(a: argparse.Namespace, job: Job, store: Store, out: Path, name: str) -> Comparison:
    """Compute the missing cells of a comparison. `name`: for messages."""
    return compare(
        job,
        RunContext(store, trainer=make_trainer(device=device(), cache=store.root / "models")),
        out,
        evaluate=Ask(False),
        report=lambda text: print(f"{name}: {text}", flush=True),
    )


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--pool", required=True, choices=tuple(POOLS))
    parser.add_argument("--stage", required=True, choices=[s.name for s in arms.STAGES])
    a = parser.parse_args()
    world = world_of(a)
    stage = next(s for s in arms.STAGES if s.name == a.stage)
    store = store_of(a, a.pool)
    pool, questions = opened(a, world, a.pool)
    model = base_of(a, store)
    job = job_of(a, stage, pool, questions, model)
    compute(a, job, store, cells_of(a, a.pool), f"{a.pool} {stage.name}")


if __name__ == "__main__":
    main()
