"""Every kind of finding. The order here is the order of the findings within a severity."""

from __future__ import annotations

SEVERITIES = ("error", "warning", "info")  # error: a run that needs a model loses the row

_FAILS = "the row fails if a model is needed"
_TEMPLATE = "scored unchanged, if the chat template allows it"

# kind -> severity, what it is, what a run does
KINDS: dict[str, tuple[str, str, str]] = {
    "unreadable": (
        "error",
        "records that are not samples",
        ("left out by every method, never exported"),
    ),
    "missing-image": ("error", "image file does not exist", _FAILS),
    "empty-image": ("error", "image file of 0 bytes", _FAILS),
    "not-an-image": ("error", "file is not a supported image", _FAILS),
    "broken-image": ("error", "image file is truncated or damaged", _FAILS),
    "huge-image": ("error", "image with more pixels than allowed", _FAILS),
    "unsafe-path": ("error", "image path leaves the image folder", f"never opened; {_FAILS}"),
    "remote-url": ("error", "image is a URL", f"never fetched; {_FAILS}"),
    "bad-image": ("error", "`image` is neither a path nor a list of paths", _FAILS),
    "unread-media": (
        "error",
        "an image, video or audio in a field that is not read, and no other medium",
        _FAILS,
    ),
    "placeholder-mismatch": (
        "error",
        "count of <image> differs from count of images, or count of <video> from that of videos",
        _FAILS,
    ),
    "media-marker": (
        "error",
        "a marker in the text refers to an image, video or audio that the row does not have",
        _FAILS,
    ),
    "grounding": ("error", "<ref-object> or <bbox> in the text do not fit `objects`", _FAILS),
    "no-answer": ("error", "no answer text at all", _FAILS),
    "bad-turn": ("error", "a turn is not an object", _FAILS),
    "unknown-role": ("error", "a turn's `from` is none of human, gpt, system", _FAILS),
    "bad-value": ("error", "a turn's `value` is neither text nor parts that are read", _FAILS),
    "invalid-text": ("error", "invalid UTF-8 or a lone surrogate in a text", _FAILS),
    "nul-byte": ("error", "a NUL character (or U+E000) in a text", _FAILS),
    "missing-video": ("error", "video file does not exist", _FAILS),
    "bad-video": ("error", "a video that is no file, or cannot be decoded", _FAILS),
    "video": (
        "error",
        "a video row",
        "not scored without the option `video-frames`, or by a model that takes no videos: see the "
        "option `unscorable`; usable if no model is needed",
    ),
    "audio": (
        "error",
        "a row with audio",
        "not scored by any model: see the option `unscorable`; usable if no model is needed",
    ),
    "eval-leak": (
        "warning",
        "a question of the evaluation set",
        "nothing: remove these rows with the option `drop`",
    ),
    "long-row": (
        "warning",
        "more tokens than the context (estimated)",
        "the row fails if the model's context is shorter",
    ),
    "empty-answer": (
        "warning",
        "one of several answers is empty",
        "scored unchanged; the empty answer has no tokens",
    ),
    "empty-question": ("warning", "a question is empty", "scored unchanged"),
    "starts-with-assistant": ("warning", "the conversation starts with gpt", _TEMPLATE),
    "ends-with-user": (
        "warning",
        "the conversation ends with human",
        "scored unchanged; the last turn has no answer",
    ),
    "user-twice": ("warning", "two human turns in a row", _TEMPLATE),
    "assistant-twice": ("warning", "two gpt turns in a row", _TEMPLATE),
    "grounding-tags": (
        "warning",
        "grounding tags of one family of models (<ref>, <box>)",
        "scored as text",
    ),
    "late-system": ("warning", "a system turn that is not the first", _TEMPLATE),
    "image-extension": (
        "warning",
        "file extension does not match the image format",
        "read by its content",
    ),
    "tiny-image": (
        "warning",
        "image of fewer than 8 pixels per side",
        "enlarged to the model's input size",
    ),
    "duplicate-row": (
        "info",
        "exact copies of an earlier row",
        "scored once; each copy can be selected unless the option `dedup` is exact",
    ),
    "near-duplicate": (
        "info",
        "nearly the same as an earlier row",
        "nothing, unless the option `dedup` is near",
    ),
    "duplicate-image": (
        "info",
        "same image file under another name",
        "nothing: a run identifies images by content, so they are one image",
    ),
    "placeholder-missing": (
        "info",
        "images but no <image> in the text",
        "<image> is put before the first question; exported untouched",
    ),
    "marker-read": (
        "info",
        "an image is named inside the text, or has another tool's marker",
        "read as <image> at that place, and exported so to other formats",
    ),
    "grounding-filled": (
        "info",
        "<ref-object> or <bbox> in the text",
        ("filled from `objects`; exported untouched"),
    ),
    "duplicate-id": ("info", "id of an earlier row", "nothing: ids are only copied"),
    "palette-image": ("info", "image with a palette", "converted to RGB"),
    "alpha-image": (
        "info",
        "image with an alpha channel or a transparent colour",
        "placed on a white background",
    ),
    "cmyk-image": ("info", "image in print colours (CMYK)", "converted to RGB"),
    "wide-image": ("info", "image with 16 bits or more per channel", "scaled to 8 bits"),
    "animated-image": ("info", "image of several frames", "its first frame is used"),
    "rotated-image": ("info", "image with an EXIF rotation", "rotated upright"),
    "byte-order-mark": ("info", "file starts with a byte order mark", "skipped"),
    "crlf": (
        "info",
        "Windows line ends in the file or in a text",
        "read unchanged; kept in texts",
    ),
    "text-only": ("info", "rows without an image", "scored like any other row"),
}
OTHER = ("error", "a problem of this format", _FAILS)  # for kinds that are not in this table


def describe_kind(kind: str) -> tuple[str, str, str]:
    """Severity, what it is, what a run does."""
    return KINDS.get(kind, OTHER)
