"""Names of the files of a column, relative to the store."""

from __future__ import annotations

import re

MEMBER = re.compile(
    r"columns/(?P<column>[0-9a-f]{32})/"
    r"(?P<file>signal\.json|part-[0-9a-f]{32}\.parquet|cost-[0-9a-f]{32}\.json)"
)
