"""What is asked of a comparison, as it was typed: paths are text, a model is a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from thresher.request import RunRequest
from thresher.selection.config import parse_settings
from thresher.selection.worker import read_request
from thresher.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """All that `thresher compare` needs.

    options: pool, models, devices, store and output folder.
    test: the evaluation set.
    methods: names, with commas between them.
    budgets: shares or numbers of rows, with commas between them.
    seeds: number of seeds.
    test_images: folder that image paths of the evaluation set start from; None: its own folder.
    full: also train on the whole pool.
    equal: "epochs" or "steps".
    settings: METHOD.KEY=VALUE each.
    score: how answers are scored.
    keep_models: keep the model of every cell.
    recipe: how to train.
    """

    options: RunRequest
    test: str
    methods: str
    budgets: str = "10%"
    seeds: int = 3
    test_images: str | None = None
    full: bool = True
    equal: str = "epochs"
    settings: tuple[str, ...] = ()
    score: str = "auto"
    keep_models: bool = False
    recipe: Recipe = field(default_factory=Recipe)

    def to_mapping(self) -> dict[str, Any]:
        """Plain values; those of `options` are without the ones that are unset."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {
            "options": self.options.to_mapping(),
            "settings": list(self.settings),
            "recipe": asdict(self.recipe),
        }

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> CompareRequest:
        """The inverse of `to_mapping`, also after its values were JSON. Raises ConfigError."""
        return cls(
            **{
                **values,
                "options": read_request(values["options"]),
                "settings": tuple(values["settings"]),
                "recipe": Recipe(**values["recipe"]),
            }
        )

    def for_tracker(self) -> dict[str, Any]:
        """What a tracker shows of the request, by option."""
        return self.options.to_mapping() | {
            "eval": self.test,
            "methods": self.methods,
            "budgets": self.budgets,
            "seeds": self.seeds,
            "settings": parse_settings(list(self.settings)),
            "recipe": asdict(self.recipe),
            "equal": self.equal,
        }
