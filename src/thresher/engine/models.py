"""The models that signals use: one is open at a time. A model that thresher trains is trained when
it is first needed.

Writes trained models into the store.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from thresher.engine.context import RunContext
from thresher.engine.graph import model_of, models_to_train
from thresher.engine.table import ColumnTable
from thresher.errors import ConfigError, opt
from thresher.fingerprint import fingerprint
from thresher.training.distillation_pool import DistillationPool
from thresher.training.registry import TrainingRun, trained_identity, trained_model
from thresher.types import (
    ModelIdentity,
    RowSignal,
    TrainedIdentity,
    TrainedModel,
    TrainingRows,
)

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.pools.view import PoolView

_Row = TypeVar("_Row", bound=RowSignal)
_Identity = ModelIdentity | TrainedIdentity | None
NO_MODEL = (
    f"This method asks a model about the rows. Name one: {opt('model')} with a folder, a hub id, "
    "or demo."
)


@dataclass(frozen=True)
class TrainingSet:
    """What a model is trained on: `rows` (int64 [m]) of `source`."""

    source: TrainingRows  # the pool, or distillation examples made from it
    rows: np.ndarray


class Models:
    """The models of one run, by identity.

    Arguments:
        pool: what models are trained on.
        context: the models that the user named, the trainer and the store.
    """

    def __init__(self, pool: PoolView, context: RunContext) -> None:
        self.training_sets: dict[TrainedIdentity, TrainingSet] = {}
        self.trainings: list[TrainingRun] = []  # of the models that columns were computed with
        self.notes: list[str] = []  # of backends, for the user
        self._pool, self._context = pool, context
        self._handles = {handle.identity: handle for handle in context.roles.values()}
        if context.model is not None:
            self._handles[context.model.identity] = context.model
        self._identities: dict[TrainedModel, TrainedIdentity] = {}
        self._opened: tuple[_Identity, Any] | None = None

    def resolve(self, signal: _Row, table: ColumnTable, eligible: np.ndarray) -> _Row:
        """The signal as the store knows it: each model to be trained replaced by its identity.

        A model keeps its first identity, even if some of its training rows fail later. Its training
        set may be empty as long as no row needs it (`check_can_train`).

        Arguments:
            signal: as declared.
            table: holds the signal's inputs, among them the training rows.
            eligible: bool [n], by position.
        """
        found = {}
        for name, model in models_to_train(signal).items():
            if model not in self._identities:
                self._identities[model] = self._identify(model, table, eligible)
            found[name] = self._identities[model]
        return dataclasses.replace(signal, **found) if found else signal  # type: ignore[type-var]

    def _identify(
        self, model: TrainedModel, table: ColumnTable, eligible: np.ndarray
    ) -> TrainedIdentity:
        chosen = table[model.rows]["chosen"] & eligible  # [n] bool
        source: TrainingRows = self._pool
        rows = table.numbering.pool_rows[chosen]  # [m] int64
        digest = table.numbering.digest[chosen]  # [m] DIGEST
        if model.examples is not None:
            columns = table.columns(model.examples.inputs()).take(chosen)  # m rows
            source = DistillationPool(self._pool, rows, model.examples, columns)
            rows, digest = source.order, source.digest
        identity = trained_identity(model, digest)
        self.training_sets[identity] = TrainingSet(source, rows)
        return identity

    def check_can_train(self, signal: RowSignal, label: str) -> None:
        """Raise ConfigError if a resolved signal needs a model whose training set is empty.

        Arguments:
            signal: resolved; some rows have no stored value of it.
            label: its name in the message.
        """
        identity = model_of(signal)
        training = (
            self.training_sets.get(identity) if isinstance(identity, TrainedIdentity) else None
        )
        if training is not None and not len(training.rows):
            raise ConfigError(
                f"{label} needs a model that is trained first, and there is no row to train it on."
            )

    def open(self, identity: _Identity = None) -> Any:
        """The backend of a model. The backend that was open before is closed.

        A model that thresher trains is trained now if it is not in the store. Raises ConfigError
        if the model is not named, and what training or opening raises.

        Arguments:
            identity: of the model; None: the main model.
        """
        handle = self.handle(identity)
        if self._opened is None or self._opened[0] != identity:
            self.close()
            if isinstance(identity, TrainedIdentity):
                training, context = self.training_sets[identity], self._context
                handle = trained_model(
                    identity,
                    handle,
                    training.source,
                    training.rows,
                    context.store,
                    context.trainer,
                    context.progress,
                    context.meter.add_training,
                )
            self._opened = (identity, handle.open())
        return self._opened[1]

    def close(self) -> None:
        """Close the model that is open."""
        if self._opened is None:
            return
        end = getattr(self._opened[1], "close", None)  # of a backend with a process of its own
        if end is not None:
            end()
        self._opened = None

    def handle(self, identity: _Identity) -> ModelHandle:
        """The handle of the model that the user named; for a trained model, of its base. Raises
        ConfigError if no model was named.

        Arguments:
            identity: of the model; None: the main model.
        """
        base = identity.base if isinstance(identity, TrainedIdentity) else identity
        main = self._context.model
        found = main if base is None else self._handles.get(base, main)
        if found is None:
            raise ConfigError(NO_MODEL)
        return found

    def collect_notes(self) -> None:
        """Add the notes of the open backend."""
        backend = None if self._opened is None else self._opened[1]
        self.notes += [note for note in getattr(backend, "notes", ()) if note not in self.notes]

    def record_training(self, signal: RowSignal, label: str) -> None:
        """Record what it cost to train the model of a resolved signal, now or in an earlier run.

        Arguments:
            signal: resolved.
            label: its name in the record.
        """
        identity = model_of(signal)
        if not isinstance(identity, TrainedIdentity):
            return
        if all(t.fingerprint != fingerprint(identity) for t in self.trainings):
            rows = len(self.training_sets[identity].rows)
            self.trainings.append(TrainingRun.read(self._context.store, identity, label, rows))
