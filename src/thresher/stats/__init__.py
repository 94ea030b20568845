"""Intervals, verdicts and correlation."""
