"""The proof benchmark: does a selection method beat random in a world where everything is known?
`python -m benchmarks.proof`."""
