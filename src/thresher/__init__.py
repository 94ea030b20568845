"""thresher: pick the subset of an image+text pool that is worth fine-tuning a multimodal LLM on.

Importing this imports no torch, ray or vllm.
"""

__version__ = "0.1.0"
