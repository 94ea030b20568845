"""Interpreting answers: normalisation, candidates, parsing of generated text, and metrics."""
