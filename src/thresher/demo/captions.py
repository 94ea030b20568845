"""Captions of scenes: with positions (for training, and scenes given as text) or without (the
answer to "Describe the picture.")."""

from thresher.demo import scenes
from thresher.demo.scenes import Scene


def caption(scene: Scene, places: bool) -> str:
    """A list of everything in the scene.

    Arguments:
        scene: to describe.
        places: precede each object by its position.
    """
    if scene.large:
        return f"one large {scene.large.colour} {scene.large.name}"
    if places:
        parts = [
            f"bottom {scenes.COLUMNS[b.column]}: {b.colour} bar {b.height}" for b in scene.bars
        ]
        return "; ".join(parts + [f"{t.position}: {t.phrase}" for t in scene.things])
    return ", ".join(
        [f"a {b.colour} bar" for b in scene.bars] + [f"a {t.phrase}" for t in scene.things]
    )
