"""Test helpers for authors of plug-ins: `check_method` applies the conformance checks of the
built-in methods, `check_adapter` those for the adapter of a model."""

from thresher.testing.adapter_checks import check_adapter
from thresher.testing.columns import planted_columns
from thresher.testing.method_checks import check_method

__all__ = ["check_adapter", "check_method", "planted_columns"]
