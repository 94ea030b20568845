"""Models that vLLM's offline engine runs in this process's place: losses of answers, answers to
questions and generated texts. vLLM is imported only when a model is opened."""
