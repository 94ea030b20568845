"""Combines the members of one WebDataset sample into a record: `000.json`, `000.0.jpg`,
`000.1.jpg`, `000.txt`.

The `.json` is the record; images are recognised by content, not by suffix. Their order is that of
the record if it names the members, else that of the numbers in their names, else that of the tar.
Pure functions over bytes.
"""

from __future__ import annotations

import codecs
import copy
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from thresher.pools.embedded import parse_image
from thresher.pools.image_formats import HEAD, sniff
from thresher.pools.paths import printable
from thresher.pools.suffixes import AUDIO_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES
from thresher.text import ParseError, parse_json

TEXTS = ("txt", "caption", "text")
CONVERSATION_KEYS = ("conversations", "messages", "texts", "instruction")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# without leading zeros: of two, the longer one is larger
_NUMBER = re.compile(r"0*(0|[1-9]\d*)(?!\d)")


class Member(NamedTuple):
    """`content` is None for a link, which has no data."""

    name: str  # its whole path in the tar
    content: bytes | None


@dataclass(frozen=True)
class TarSample:
    """One sample. `value` is None, with no problem, if none of the members belongs to a sample."""

    key: str
    value: dict[str, Any] | None
    problem: str = ""  # "unreadable: …", "" = none
    passed_over: tuple[str, ...] = ()  # members that were not used, as a suffix or a description
    unordered: tuple[str, ...] = ()  # several images whose names give no order


def split_member_name(name: str) -> tuple[str, str, str, str]:
    """(folder, stem, middle, suffix) of a member, as WebDataset does: the stem ends at the first
    dot of the name.

    >>> split_member_name("a.b/000.left.PNG"), split_member_name("README")
    (('a.b', '000', 'left', 'png'), ('', 'README', '', ''))
    """
    folder, _, base = name.removeprefix("./").rpartition("/")
    stem, _, extension = base.partition(".")
    middle, _, suffix = extension.rpartition(".")
    return folder, stem, middle, suffix.lower()


def member_kind(suffix: str, head: bytes) -> str:
    """The kind of a member: "record", "text", "image", "video", "audio", or "" if it is ignored.

    Arguments:
        suffix: of the member's name, without the dot.
        head: its first bytes.
    """
    if suffix == "json":
        return "record"
    if suffix in TEXTS:
        return "text"
    if suffix in IMAGE_SUFFIXES or sniff(head):
        return "image"
    return "video" if suffix in VIDEO_SUFFIXES else "audio" if suffix in AUDIO_SUFFIXES else ""


def parse_sample(members: Sequence[Member]) -> TarSample:
    """One sample from the members with one key, in the order of the tar."""
    passed: list[str] = []
    kinds: dict[str, list[Member]] = {
        "record": [],
        "text": [],
        "image": [],
        "video": [],
        "audio": [],
    }
    key = split_member_name(members[0].name)[1] if members else ""
    contents: dict[str, bytes | None] = {}
    problem = ""
    for member in members:
        suffix = split_member_name(member.name)[3]
        kind = member_kind(suffix, (member.content or b"")[:HEAD])
        if not kind:
            passed.append(f".{suffix}" if suffix else member.name)
            continue
        if member.content is None:
            problem = problem or (
                f"{printable(member.name)} is a link, which has no data: make the tar with "
                "--dereference --hard-dereference"
            )
        if member.name in contents:
            if contents[member.name] != member.content:
                problem = problem or (
                    f"{printable(member.name)} is in the tar twice, with different content"
                )
            passed.append("duplicate members")
            continue
        contents[member.name] = member.content
        kinds[kind].append(member)
    if not contents:
        return TarSample(key, None, "", tuple(passed))
    key = _key(key, list(contents))
    if problem:
        return TarSample(key, None, f"unreadable: {problem}", tuple(passed))
    record, problem = _record(kinds["record"], key, passed)
    if problem:
        return TarSample(key, None, f"unreadable: {problem}", tuple(passed))
    images, problem, unordered = _ordered_images(kinds["image"], record, key, passed)
    if problem:
        return TarSample(key, None, f"unreadable: {problem}", tuple(passed))
    if images and not kinds["record"] and not kinds["text"]:
        kind = "an image" if len(images) == 1 else "images"
        return TarSample(
            key,
            None,
            f"unreadable: sample {printable(key)} has {kind} and no .json or .txt",
            tuple(passed),
        )
    if kinds["text"] and not any(k in record for k in CONVERSATION_KEYS):
        text, problem = _caption(kinds["text"], key, passed)
        if not images and not kinds["video"] and not kinds["audio"] and not _image_names(record):
            problem = problem or f"sample {printable(key)} has a caption and no image"
        if problem:
            return TarSample(key, None, f"unreadable: {problem}", tuple(passed))
        question = "<image>" * len(images)
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": text.strip()}]
        record = {**record, "conversations": turns}
    else:
        passed += [f".{split_member_name(m.name)[3]} beside a json" for m in kinds["text"]]
    if images:
        record = _without_image_names(record)
        name = "images" if "images" in record else "image"
        record = {k: v for k, v in record.items() if k not in ("image", "images")} | {name: images}
    for media, names in (("video", ("video", "videos")), ("audio", ("audio", "audios"))):
        if kinds[media] and not any(record.get(n) for n in names):
            record = {**record, names[1]: [_identity(m) for m in kinds[media]]}
    return TarSample(key, record, "", tuple(passed), unordered)


def _key(stem: str, names: list[str]) -> str:
    """The stem, with what all members have between it and their suffixes: `v1.5_a` of v1.5_a.jpg
    and v1.5_a.json.
    """
    middles = {split_member_name(name)[2] for name in names}
    middle = middles.pop() if len(middles) == 1 and len(names) > 1 else ""
    return f"{stem}.{middle}" if middle else stem


def _record(members: list[Member], key: str, passed: list[str]) -> tuple[dict[str, Any], str]:
    """The record and "", or why there is none. Without a .json the record has only an id."""
    if not members:
        return {"id": key}, ""
    plain = [m for m in members if not split_member_name(m.name)[2]] or members
    if len(plain) > 1:
        names = ", ".join(printable(m.name) for m in plain[:4])
        return {}, (
            f"sample {printable(key)} has {len(plain)} records and none is named "
            f"{printable(key)}.json: "
            f"{names}"
        )
    passed += [
        f".{split_member_name(m.name)[2]}.json beside the record"
        for m in members
        if m is not plain[0]
    ]
    content = (plain[0].content or b"").removeprefix(codecs.BOM_UTF8)
    if content.startswith(_UTF16):
        return {}, f"the json of sample {printable(key)} is UTF-16 text: save it as UTF-8"
    try:
        record = parse_json(content)
    except ParseError as error:
        return {}, f"the json of sample {printable(key)} is not valid JSON: {error}"
    if not isinstance(record, dict):
        return {}, f"the json of sample {printable(key)} is not an object"
    return record, ""


def _caption(members: list[Member], key: str, passed: list[str]) -> tuple[str, str]:
    first = min(
        members,
        key=lambda m: (
            split_member_name(m.name)[2] != "",
            TEXTS.index(split_member_name(m.name)[3]),
        ),
    )
    passed += [
        f".{split_member_name(m.name)[3]} beside another text" for m in members if m is not first
    ]
    content = (first.content or b"").removeprefix(codecs.BOM_UTF8)
    if content.startswith(_UTF16):
        return "", f"the text of sample {printable(key)} is UTF-16: save it as UTF-8"
    return content.decode("utf-8", "surrogateescape"), ""


def _ordered_images(
    members: list[Member], record: dict[str, Any], key: str, passed: list[str]
) -> tuple[list[bytes], str, tuple[str, ...]]:
    """(images in order, problem, names that give no order)."""
    if not members:
        return [], "", ()
    if empty := [m.name for m in members if not m.content]:
        return (
            [],
            f"the image {printable(empty[0])} of sample {printable(key)} is empty (0 bytes)",
            (),
        )
    names = _image_names(record)
    matches = [_find_member(name, members) for name in names]
    # Is 1.png the second member (000.1.png), or the original name of the first? The latter, as in
    # our own exports.
    middles = [split_member_name(m.name)[2] for m in members]
    as_members = [name.partition(".")[0] for name in names if _is_numbered(name)]
    ambiguous = not any(matches) and sorted(as_members) == sorted(middles) and as_members != middles
    if any(matches):
        missing = [name for name, member in zip(names, matches, strict=True) if member is None]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            description = f"{printable(missing[0])}{more}"
            return (
                [],
                (
                    f"the json of sample {printable(key)} names {description}, which is not among "
                    f"its "
                    f"members"
                ),
                (),
            )
        ordered = [member for member in matches if member is not None]
        passed += ["images that the json does not name"] * len(
            [m for m in members if m not in ordered]
        )
        return [m.content or b"" for m in ordered], "", ()
    if names and len(names) != len(members):
        count = f"{len(members)} image{'' if len(members) == 1 else 's'}"
        return (
            [],
            (
                f"the json of sample {printable(key)} names {len(names)} images and the tar has "
                f"{count}"
            ),
            (),
        )
    numbers = [tuple((len(n), n) for n in _NUMBER.findall(middle)) for middle in middles]
    words = {re.sub(r"[\d_.-]+", "", middle) for middle in middles}
    if len(members) > 1 and (len(words) > 1 or len(set(numbers)) < len(numbers)):
        return [m.content or b"" for m in members], "", tuple(m.name for m in members)
    ordered = [
        member for _, member in sorted(zip(numbers, members, strict=True), key=lambda pair: pair[0])
    ]
    return (
        [m.content or b"" for m in ordered],
        "",
        tuple(m.name for m in ordered) if ambiguous else (),
    )


def _identity(member: Member) -> dict[str, str]:
    """Identifies a medium that no model here reads: its name and a hash of its content."""
    return {"path": member.name, "sha256": hashlib.sha256(member.content or b"").hexdigest()}


def _image_names(record: dict[str, Any]) -> list[str]:
    """The images that a record names, as text: in the parts of its messages, else in `image` or
    `images`.
    """
    in_parts = [parse_image(part[field]) for part, field in _image_parts(record)]
    if in_parts:
        return [one for one in in_parts if isinstance(one, str) and one]
    given = record.get("image")
    given = record.get("images") if given is None else given
    listed = given if isinstance(given, list) else [given]
    found = [parse_image(one) for one in listed]
    return [one for one in found if isinstance(one, str) and one]


def _image_parts(record: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """The parts of a record's messages that name an image, each with the field that does."""
    turns = [
        t
        for key in ("messages", "conversations")
        if isinstance(record.get(key), list)
        for t in record[key]
    ]
    contents = [t.get("content", t.get("value")) for t in turns if isinstance(t, dict)]
    parts = [
        p
        for content in contents
        if isinstance(content, list)
        for p in content
        if isinstance(p, dict)
    ]
    return [
        (part, field)
        for part in parts
        if part.get("type") in ("image", "image_url", "input_image")
        for field in ("image", "image_url", "url", "path")
        if isinstance(parse_image(part.get(field)), str)
    ]


def _without_image_names(record: dict[str, Any]) -> dict[str, Any]:
    """The record without image names in its messages: the members are used in their place."""
    if not _image_parts(record):
        return record
    record = copy.deepcopy(record)
    for part, field in _image_parts(record):
        del part[field]
    return record


def _is_numbered(name: str) -> bool:
    """Whether a name is only a number and a suffix: `1.png`."""
    return name.partition(".")[0].isdigit() and "/" not in name and name.count(".") == 1


def _find_member(name: str, members: list[Member]) -> Member | None:
    """The member that a record refers to as `name`: its path, its name, or the part of it after the
    key.
    """
    base = name.replace("\\", "/").rpartition("/")[2]
    for lower in (False, True):
        for candidate in dict.fromkeys((name, base)):
            for form in range(2 if _is_numbered(name) else 4):
                for member in members:
                    _, stem, middle, suffix = split_member_name(member.name)
                    own = member.name.rpartition("/")[2]
                    forms = (member.name, own, own[len(stem) + 1 :], middle or f"{stem}.{suffix}")
                    if forms[form] and (forms[form].lower() if lower else forms[form]) == (
                        candidate.lower() if lower else candidate
                    ):
                        return member
    return None
