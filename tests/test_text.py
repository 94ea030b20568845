"""Parsing of users' lines, JSON and YAML: limits and error messages."""

from __future__ import annotations

import json

import pytest

from thresher.text import (
    MAX_DEPTH,
    ParseError,
    closing_bracket,
    parse_json,
    parse_yaml,
    split_lines,
    too_deep,
)

SEPARATORS = ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]


@pytest.mark.parametrize("character", SEPARATORS)
def test_only_line_feeds_end_a_line(character: str) -> None:
    assert list(split_lines(f"a{character}b\nc\r\n\nd{character}")) == [
        f"a{character}b",
        "c",
        "",
        f"d{character}",
    ]


def test_empty_text_and_missing_final_newline() -> None:
    assert (
        list(split_lines("")) == []
        and list(split_lines("\n")) == [""]
        and list(split_lines("a")) == ["a"]
    )


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a": '])
@pytest.mark.parametrize("times", [MAX_DEPTH + 1, 2000, 200_000])
def test_too_deep_json_is_refused_with_a_message(opening: str, times: int) -> None:
    with pytest.raises(ParseError, match="nested more than 200 levels deep"):
        parse_json(opening * times)


def test_brackets_in_strings_and_siblings_do_not_count_as_depth() -> None:
    value = {"text": "[" * 5000 + '\\"' + "{" * 5000, "rows": [[i] for i in range(2000)]}
    assert parse_json(json.dumps(value)) == value
    assert not too_deep(b'"' + b"[" * 5000)


def test_parse_json_equals_the_json_module() -> None:
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(deep) == json.loads(deep)
    assert parse_json(b'["\xff"]') == ["\udcff"]
    for text, reason in (
        ('{"a": 1', "at character 7"),
        ('{\n"a": 1', "at line 2"),
        ("9" * 5000, "4,300 digits"),
    ):
        with pytest.raises(ParseError, match=reason):
            parse_json(text)


def test_undecodable_text_is_skipped() -> None:
    text = 'x{"a": "}]", "b": [1, {"c": "\\"}"}]} tail'
    assert text[closing_bracket(text, 1) :] == " tail"
    assert closing_bracket('{"a": "never closed', 0) == closing_bracket("[[1]", 0) == -1


BOMBS = {
    "lists": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{chr(c + 1)}: &{chr(c + 1)} [{','.join([f'*{chr(c)}'] * 9)}]\n"
        for c in range(ord("a"), ord("k"))
    ),
    "maps": "a: &a {x: 1, y: 2}\n"
    + "".join(
        f"{chr(c + 1)}: &{chr(c + 1)} {{p: *{chr(c)}, q: *{chr(c)}}}\n"
        for c in range(ord("a"), ord("y"))
    ),
    "merge keys": "a: &a {x: 1}\n"
    + "".join(
        f"{chr(c + 1)}: &{chr(c + 1)} {{<<: [*{chr(c)}, *{chr(c)}, *{chr(c)}]}}\n"
        for c in range(ord("a"), ord("y"))
    ),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_yaml_alias_expansion_is_limited(bomb: str) -> None:
    with pytest.raises(ParseError, match="once its aliases"):
        parse_yaml(bomb)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &a [*a]", r"\*a refers to itself"),
        ("[" * 2000, "nested more than 200 levels deep"),
        (
            "".join("- " * i + "\n" for i in range(1, 3)) + "- " * 2000 + "x",
            ("nested more than 200 levels deep"),
        ),
        ("a: [1, 2", "line [12]: "),
        ("a: 2024-13-45", "month"),
        ("a: " + "9" * 5000, "4,300 digits"),
        ("a: !!python/object:os.system {}", "could not determine a constructor"),
        ("a: *nobody", "undefined alias"),
        ("a: \x00", "special characters|control characters"),
    ],
)
def test_refused_yaml_has_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ParseError, match=reason):
        parse_yaml(text)


def test_ordinary_aliases_and_merge_keys_are_read() -> None:
    text = "base: &b {x: 1, y: 2}\none: *b\ntwo: {<<: *b, y: 3}\nlist: &l [1, 2]\nagain: [*l, *l]"
    assert parse_yaml(text) == {
        "base": {"x": 1, "y": 2},
        "one": {"x": 1, "y": 2},
        "two": {"x": 1, "y": 3},
        "list": [1, 2],
        "again": [[1, 2], [1, 2]],
    }


@pytest.mark.parametrize(
    ("text", "line", "first"),
    [
        ("seed: 3\nbudget: 5\nseed: 4\n", 3, 1),
        ("{a: 1, a: 2}", 1, 1),
        ("- x: {y: 1}\n- x: {y: 1,\n     y: 2}\n", 3, 2),
    ],
)
def test_a_key_that_is_given_twice_is_an_error(text: str, line: int, first: int) -> None:
    with pytest.raises(ParseError, match=f"line {line}: the key .* twice, first in line {first}"):
        parse_yaml(text)


def test_merge_keys_and_equal_keys_of_different_mappings_are_read() -> None:
    text = "base: &b {x: 1}\nother: {<<: *b, y: 2}\nthird: {x: 3}\n"
    assert parse_yaml(text) == {"base": {"x": 1}, "other": {"x": 1, "y": 2}, "third": {"x": 3}}
    assert parse_yaml("") is None
