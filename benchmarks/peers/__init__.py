"""thresher beside the packages that a user would take instead, in one run: time, memory, result.

A comparison is a module here: what it prepares, what thresher runs, and a function for each peer.
Every run is a process of its own. A peer runs in the virtual environment that
`python -m benchmarks.peers --install` makes of its file in `requirements/`, or, where it is written
from a published algorithm, in the project's. Modules are imported in both, so they import packages
inside functions.
"""
