"""Suffixes of media files, without the dot and in lower case."""

from thresher.pools.image_formats import EXTENSIONS

# Includes formats that are not supported: the doctor reports such files.
IMAGE_SUFFIXES = EXTENSIONS | {
    "img",
    "image",
    "heic",
    "heif",
    "jxl",
    "svg",
    "eps",
    "psd",
    "tga",
    "exr",
    "hdr",
    "qoi",
    "dng",
}
VIDEO_SUFFIXES = frozenset({"mp4", "mov", "avi", "mkv", "webm", "m4v", "mpg", "mpeg", "gifv"})
AUDIO_SUFFIXES = frozenset({"wav", "mp3", "flac", "ogg", "m4a", "aac", "opus"})
