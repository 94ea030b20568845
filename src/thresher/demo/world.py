"""The toy world in one place: the names that the rest of the package and its users need.

A world item is made in three steps: sample a question about a scene, phrase it in a style, render
the scene.
"""

from thresher.demo.captions import caption
from thresher.demo.noise import wrong_answer
from thresher.demo.questions import KINDS, Question, ask, sample_question
from thresher.demo.render import render, render_fixed
from thresher.demo.scenes import Bar, Large, Scene, Split, Thing, grid_scene
from thresher.demo.styles import STYLES, Turn, phrase

__all__ = [
    "KINDS",
    "STYLES",
    "Bar",
    "Large",
    "Question",
    "Scene",
    "Split",
    "Thing",
    "Turn",
    "ask",
    "caption",
    "grid_scene",
    "phrase",
    "render",
    "render_fixed",
    "sample_question",
    "wrong_answer",
]
