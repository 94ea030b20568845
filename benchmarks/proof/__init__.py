"""The proof: compares all selection methods with random on synthetic pools with known labels.
`python -m benchmarks.proof`."""
