"""Hugging Face transformers models: conversations to tokens, images to features, batches to
losses."""
