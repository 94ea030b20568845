"""What is asked of a run.

    run_request   the request: a field for each option, with its documentation
    fields        reads the fields of a request class, for what is generated from them
    spelling      how messages name an option: by a flag, or by a line of a YAML file

Touches nothing.
"""

from thresher.request.fields import (
    REQUIRED,
    Option,
    RequestField,
    docs_of,
    fields_of,
    help_of,
    parameters_section,
)
from thresher.request.run_request import (
    MIXTURE,
    SERVER,
    Backend,
    Dedup,
    Dtype,
    Engine,
    OnLeak,
    OnMissing,
    RunRequest,
    Track,
    Unscorable,
)

__all__ = [
    "MIXTURE",
    "REQUIRED",
    "SERVER",
    "Backend",
    "Dedup",
    "Dtype",
    "Engine",
    "OnLeak",
    "OnMissing",
    "Option",
    "RequestField",
    "RunRequest",
    "Track",
    "Unscorable",
    "docs_of",
    "fields_of",
    "help_of",
    "parameters_section",
]
