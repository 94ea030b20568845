"""Training of tiny models end to end: it learns, the saved folder equals the model in memory,
invalid inputs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from tests.backends.hf.opened_backends import opened
from tests.tiny_models import build
from tests.training.colour_pools import pool_of, record
from thresher.backends import resolve
from thresher.backends.hf.training_loss import AnswerLossFn
from thresher.errors import (
    ConfigError,
    MissingExtra,
    ModelError,
    PoolError,
    StoreError,
    TooManyFailures,
)
from thresher.pools import Pool
from thresher.training import Recipe, TrainingResult, fit, rows_fingerprint

ISSUE = ("qwen2_5_vl", "llava", "llava_onevision", "smolvlm", "mllama")
SLOW = ("llava_onevision", "smolvlm")  # in full training: the others show the same by default
QUICK = Recipe(steps=14, batch=6, learning_rate=4e-3)


def losses(backend: Any, pool: Pool) -> np.ndarray:
    """Nats per answer token of every row [n], float64."""
    out = np.full(len(pool), np.nan)
    for scored in backend.answer_loss(pool.samples(range(len(pool))), pool):
        out[scored.index] = scored.values["nll"]
    return out


@dataclass
class InMemory:
    """The answers of the model in memory to `exam_pool` at the end of a training."""

    exam_pool: Pool
    after: np.ndarray | None = None


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, exam_pool: Pool) -> InMemory:
    module = sys.modules["thresher.training.fit"]  # the function `fit` hides it
    real: Callable[..., Any] = module.train_backend
    seen = InMemory(exam_pool)

    def learn(backend: Any, *args: Any, **kwargs: Any) -> Any:
        out = real(backend, *args, **kwargs)
        seen.after = losses(backend, exam_pool)
        return out

    monkeypatch.setattr(module, "train_backend", learn)
    return seen


def check_teaches(
    name: str, recipe: Recipe, training_pool: Pool, watched: InMemory, out: Path, **how: Any
) -> TrainingResult:
    before = losses(opened(name), watched.exam_pool)
    trained = fit(str(build(name)), training_pool, None, recipe, out, device="cpu", **how)
    handle = resolve(str(out), device="cpu")
    after = losses(handle.open(), watched.exam_pool)
    assert after.mean() < before.mean() - 0.5, f"{before.mean()} -> {after.mean()}"
    assert watched.after is not None
    np.testing.assert_allclose(after, watched.after, atol=2e-5, rtol=1e-5)
    assert trained.steps == 14 == len(trained.losses) and not trained.unusable
    assert not (out / ".training").exists()
    return trained


@pytest.mark.parametrize("name", ISSUE)
def test_lora_training_learns_and_reloads(
    name: str, training_pool: Pool, watched: InMemory, tmp_path: Path
) -> None:
    check_teaches(name, QUICK, training_pool, watched, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(build(name).resolve())
    from safetensors import safe_open

    with safe_open(tmp_path / "m" / "adapter_model.safetensors", "pt") as f:
        names = list(f.keys())
    assert names and not [n for n in names if "vision" in n or "visual" in n], (
        "the vision tower is left alone"
    )
    assert any("q_proj" in n for n in names) and any("down_proj" in n for n in names)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in ISSUE]
)
def test_full_training_learns_and_reloads(
    name: str, training_pool: Pool, watched: InMemory, tmp_path: Path
) -> None:
    recipe = Recipe(steps=14, batch=6, learning_rate=2e-3, lora=False)
    check_teaches(name, recipe, training_pool, watched, tmp_path / "m")
    import transformers

    load = transformers.AutoModelForImageTextToText.from_pretrained
    base, tuned = load(build(name)).state_dict(), load(tmp_path / "m").state_dict()
    assert base.keys() == tuned.keys()
    changed = {n for n in base if not torch.equal(base[n], tuned[n])}
    assert not [n for n in changed if "vision_tower" in n or "vision_model" in n or "visual" in n]
    assert [n for n in changed if "down_proj" in n]
    if name in ("llava", "llava_onevision", "mllama"):
        assert [n for n in changed if "projector" in n], (
            "what lies between vision tower and language model is trained"
        )
    assert (tmp_path / "m" / "processor_config.json").read_text() == (
        build(name) / "processor_config.json"
    ).read_text()


def test_merged_model_is_self_contained(
    training_pool: Pool, watched: InMemory, tmp_path: Path
) -> None:
    check_teaches("llava", QUICK, training_pool, watched, tmp_path / "m", merge=True)
    assert (tmp_path / "m" / "config.json").is_file() and not (
        tmp_path / "m" / "adapter_config.json"
    ).exists()


def test_adapters_on_adapters(
    training_pool: Pool, watched: InMemory, exam_pool: Pool, tmp_path: Path
) -> None:
    first = fit(
        str(build("llava")),
        training_pool,
        None,
        Recipe(steps=3, batch=4),
        tmp_path / "a",
        device="cpu",
    )
    fit(
        str(first.folder),
        training_pool,
        None,
        Recipe(steps=3, batch=4, seed=1),
        tmp_path / "b",
        device="cpu",
    )
    assert watched.after is not None
    got = losses(resolve(str(tmp_path / "b"), device="cpu").open(), exam_pool)
    np.testing.assert_allclose(got, watched.after, atol=2e-5, rtol=1e-5)


# -------------------------------------------------------------------------------- the same training


FEW = Recipe(steps=3, batch=4, accumulation=2, learning_rate=1e-3)


def test_a_finished_folder_is_reused_and_another_training_refused(
    training_pool: Pool, tmp_path: Path
) -> None:
    base = str(build("llava"))
    first = fit(base, training_pool, np.arange(30), FEW, tmp_path / "m", device="cpu")
    stamp = (tmp_path / "m" / "adapter_model.safetensors").stat().st_mtime_ns
    again = fit(base, training_pool, np.arange(30)[::-1], FEW, tmp_path / "m", device="cpu")
    assert (
        again.steps == 0
        and again.losses == first.losses
        and again.seconds == pytest.approx(first.seconds, abs=0.01)
    )
    assert (tmp_path / "m" / "adapter_model.safetensors").stat().st_mtime_ns == stamp
    for rows, recipe in ((np.arange(31), FEW), (np.arange(30), Recipe(steps=2))):
        with pytest.raises(ConfigError, match="contains another trained model"):
            fit(base, training_pool, rows, recipe, tmp_path / "m", device="cpu")
    data = json.loads((tmp_path / "m" / "training.json").read_text())
    assert data["rows"]["fingerprint"] == rows_fingerprint(training_pool, np.arange(30))
    assert data["recipe"]["steps"] == 3 and data["versions"]["trl"] and len(data["losses"]) == 3


def test_the_order_of_file_and_rows_changes_nothing(tmp_path: Path) -> None:
    """Bit for bit; and an identity does not depend on when or where the model was trained."""
    records = [record(i) for i in range(20)]
    one, two = pool_of(tmp_path / "1", records), pool_of(tmp_path / "2", records[::-1])
    base = str(build("llava"))
    a = fit(base, one, np.arange(5, 20), FEW, tmp_path / "a", device="cpu")
    b = fit(base, two, np.arange(15)[::-1], FEW, tmp_path / "b", device="cpu")
    assert a.losses == b.losses
    same = resolve(str(a.folder), device="cpu").identity
    assert (
        same
        == resolve(str(b.folder), device="cpu").identity
        != resolve(base, device="cpu").identity
    )


def test_accumulation_equals_one_large_batch(training_pool: Pool, tmp_path: Path) -> None:
    """Also where the rows have different numbers of answer tokens, and the last step fewer
    batches."""
    base = str(build("llava"))
    small = Recipe(epochs=1, batch=5, accumulation=4, learning_rate=1e-3, schedule="constant")
    large = Recipe(epochs=1, batch=20, learning_rate=1e-3, schedule="constant")
    a = fit(base, training_pool, np.arange(50), small, tmp_path / "a", device="cpu")
    b = fit(base, training_pool, np.arange(50), large, tmp_path / "b", device="cpu")
    assert a.steps == b.steps == 3
    np.testing.assert_allclose(a.losses, b.losses, atol=1e-5)


def test_seeds_of_any_size(training_pool: Pool, tmp_path: Path) -> None:
    """numpy's own generators take none above 2**32, and a user may give a date as a seed."""
    base, seeds = str(build("llava")), (2**32, 20_261_121_235_959)
    for seed in seeds:
        recipe = Recipe(steps=1, batch=4, seed=seed)
        assert (
            fit(base, training_pool, np.arange(8), recipe, tmp_path / str(seed), device="cpu").steps
            == 1
        )


def test_global_random_state_is_preserved(training_pool: Pool, tmp_path: Path) -> None:
    torch.manual_seed(5)
    want = torch.rand(2)
    torch.manual_seed(5)
    fit(
        str(build("llava")),
        training_pool,
        np.arange(4),
        Recipe(steps=1, batch=4),
        tmp_path / "m",
        device="cpu",
    )
    assert torch.equal(torch.rand(2), want)


# ----------------------------------------------------------------------------------- rows that fail


def test_rows_that_cannot_be_encoded_are_named(tmp_path: Path) -> None:
    records = [record(i) for i in range(10)]
    records[3]["conversations"][-1]["value"] = "an </s> inside"
    records[5]["image"] = "gone.png"
    records[6]["conversations"] = []
    pool = pool_of(tmp_path / "p", records)
    (tmp_path / "p" / "torn.png").write_bytes(b"not a picture")
    records[8]["image"] = "torn.png"
    pool = pool_of(tmp_path / "p", records)
    trained = fit(
        str(build("llava")), pool, None, Recipe(epochs=2, batch=2), tmp_path / "m", device="cpu"
    )
    assert [(u.row, u.id) for u in trained.unusable] == [(3, "3"), (5, "5"), (6, "6"), (8, "8")]
    assert (trained.rows, trained.untried, trained.trained_rows) == (10, 0, 6)
    reasons = [
        json.loads(line) for line in (tmp_path / "m" / "failures.jsonl").read_text().splitlines()
    ]
    assert [r["error"].partition(":")[0] for r in reasons] == [
        *("control-token", "missing-image", "unreadable", "not-an-image")
    ]
    assert reasons[1]["error"] == f"missing-image: gone.png: no such image in {pool.images_folder}"
    assert [r["row"] for r in reasons] == [3, 5, 6, 8]
    assert json.loads((tmp_path / "m" / "training.json").read_text())["rows"]["unusable"] == 4


def test_rows_that_the_steps_did_not_reach_are_counted(tmp_path: Path) -> None:
    records = [record(i) for i in range(10)]
    records[5]["image"] = "gone.png"  # known before any batch
    pool = pool_of(tmp_path / "p", records)
    for repeated in (None, np.r_[np.arange(10), 0, 1]):  # then: the folder is complete already
        trained = fit(
            str(build("llava")),
            pool,
            repeated,
            Recipe(steps=1, batch=2, accumulation=2),
            tmp_path / f"m{repeated is None}",
            device="cpu",
        )
        assert [u.row for u in trained.unusable] == [5]
        tried = 10 - 1 - trained.untried
        assert (trained.rows, trained.trained_rows) == (10, tried)
        assert tried == 4 if repeated is None else 3 <= tried <= 4
    record_of = json.loads((tmp_path / "mTrue" / "training.json").read_text())
    assert record_of["rows"]["untried"] == 5
    again = fit(
        str(build("llava")),
        pool,
        None,
        Recipe(steps=1, batch=2, accumulation=2),
        tmp_path / "mTrue",
        device="cpu",
    )
    assert (again.steps, again.rows, again.untried, again.trained_rows) == (0, 10, 5, 4)


@pytest.mark.parametrize("how", ["missing", "torn"])
def test_when_all_rows_fail_nothing_is_written(how: str, tmp_path: Path) -> None:
    records = [record(5 * i) for i in range(6)]
    for r in records:
        r["image"] = "bad.png"
    (tmp_path / "p").mkdir()
    if how == "torn":
        (tmp_path / "p" / "bad.png").write_bytes(b"not a picture")
    pool = pool_of(tmp_path / "p", records)
    with pytest.raises(TooManyFailures, match=r"None of the rows can be trained on \(6 tried\)"):
        fit(str(build("llava")), pool, None, Recipe(batch=2), tmp_path / "m", device="cpu")
    assert (
        not (tmp_path / "m" / "training.json").exists()
        and not (tmp_path / "m" / "adapter_config.json").exists()
    )


# ------------------------------------------------------------------------------------- wrong inputs


def test_wrong_inputs(training_pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = Recipe(steps=1, batch=2)
    with pytest.raises(ModelError, match="takes no images"):
        fit(str(build("text_only")), training_pool, None, few, tmp_path / "m", device="cpu")
    with pytest.raises(PoolError, match="no rows to train on"):
        fit("demo", training_pool, np.zeros(0, np.int64), few, tmp_path / "m", device="cpu")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        fit("demo", training_pool, None, few, tmp_path / "file", device="cpu")
    with pytest.raises(ConfigError, match="cannot be written to"):
        fit("demo", training_pool, None, few, Path("/proc/thresher"), device="cpu")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="a model that thresher did not train"):
        fit("demo", training_pool, None, few, tmp_path / "other", device="cpu")
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(MissingExtra, match=r'pip install "thresher\[train\]"'):
        fit("demo", training_pool, None, few, tmp_path / "m", device="cpu")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("writer", "recipe"),
    [
        ("peft.peft_model.safe_save_file", FEW),
        ("transformers.modeling_utils.safe_save_file", Recipe(steps=2, batch=4, lora=False)),
        ("thresher.training.trainer.save_file", FEW),
    ],
)
def test_full_disk_is_a_store_error(
    writer: str,
    recipe: Recipe,
    training_pool: Pool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """safetensors raises its own error. Training resumes from the checkpoint before."""

    def full(*args: Any, **kwargs: Any) -> None:
        raise SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    def once() -> TrainingResult:
        return fit(
            str(build("llava")),
            training_pool,
            np.arange(8),
            recipe,
            tmp_path / "m",
            device="cpu",
            checkpoint_every=0,
        )

    with monkeypatch.context() as m:
        m.setattr(writer, full)
        with pytest.raises(
            StoreError, match=r"could not be written to .*No space left.*run again"
        ) as caught:
            once()
    assert caught.value.exit_code == 1 and not (tmp_path / "m" / "training.json").exists()
    assert len(once().losses) == recipe.steps


def test_diverged_training_is_reported(
    training_pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = AnswerLossFn.loss
    monkeypatch.setattr(AnswerLossFn, "loss", lambda self, *args: real(self, *args) * float("nan"))
    with pytest.raises(ModelError, match=r"nan after 0 steps.*Give a lower `learning_rate`"):
        fit(
            str(build("llava")),
            training_pool,
            None,
            Recipe(steps=4, batch=4),
            tmp_path / "m",
            device="cpu",
        )


def test_adapters_without_their_base(training_pool: Pool, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(build("llava"), base)
    out = fit(
        str(base),
        training_pool,
        np.arange(4),
        Recipe(steps=1, batch=4),
        tmp_path / "m",
        device="cpu",
    ).folder
    before = resolve(str(out), device="cpu").identity
    base.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match="which does not exist"):
        resolve(str(out), device="cpu")
    file = out / "adapter_config.json"
    file.write_text(file.read_text().replace(str(base), str(tmp_path / "moved")))
    assert resolve(str(out), device="cpu").identity == before, "another place is no other model"
    config = tmp_path / "moved" / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(ModelError, match="another base"):
        resolve(str(out), device="cpu")
