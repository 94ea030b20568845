"""Models behind an OpenAI-compatible server (vLLM, SGLang, a hosted API, `transformers serve`):
questions over HTTP."""
