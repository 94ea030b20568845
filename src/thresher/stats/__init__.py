"""Confidence intervals, verdicts against random selection, and correlations."""
