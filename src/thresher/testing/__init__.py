"""What an author of a plug-in needs in tests: `check_method` applies the rules that the built-in
methods are held to."""

from thresher.testing.columns import planted_columns
from thresher.testing.method_checks import check_method

__all__ = ["check_method", "planted_columns"]
