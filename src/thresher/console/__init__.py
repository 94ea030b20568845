"""Console output of long-running work: progress, numbers as text, peak memory."""
