"""Models that transformers cannot run as an image-text model, through a class of the user's own
(`--adapter module:Class`).

    adapter   `Adapter`, the base class to write, and `Encoded`
    backend   scores and generates with it, one row at a time
    resolve   finds and imports the class; the model's identity
"""

from thresher.backends.adapted.adapter import Adapter, Encoded, Message

__all__ = ["Adapter", "Encoded", "Message"]
