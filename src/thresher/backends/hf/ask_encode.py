"""Rows with many queries to token ids: the trunk that all prompts of a row share, and the trie of
what follows it.

The reference is the tokenisation of each whole prompt with each answer, as one string. Doing that
for every answer of every row costs more than a small model, so queries with a common beginning form
a group, and a row tokenises one prompt per group: after some token inside the group's own words,
the tokens are the same in every row. That holds for BPE, where a token border depends only on the
two tokens beside it. The first rows of each conversation shape are tokenised in full all the same,
and compared.

An answer's tokens are those that contain a character of it: a separator that the template writes
before an answer ("ASSISTANT: 3") belongs to the prompt if it is a separate token, and to the
answer if it is merged into the answer's first token.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from thresher.backends.hf.conversation import Conversation, Message
from thresher.backends.hf.encode import EncodedText, Encoder, PromptEncoder
from thresher.backends.hf.template import RenderError
from thresher.backends.hf.trie import Leaf, Trie, build_trie
from thresher.errors import ConfigError
from thresher.types import Query

# tokens of a group's own words that have to match before the group's stored tokens are appended
GUARD = 2
FULL_CHECKS = 3  # rows of each conversation shape that are tokenised in full, and compared
MAX_CACHED_TRIES = 256


@dataclass(slots=True)
class _Frame:
    """What a template writes between its generation prompt and an answer, and after the answer."""

    separator: str
    suffix: str


@dataclass(slots=True)
class _Group:
    """Answers whose prompts have a common beginning; `members[0]` is tokenised for every row."""

    members: list[int]  # indices into all answers
    # the last tokens of members[0]: GUARD tokens to compare, then those that no row changes
    known_suffix: list[int]
    tails: list[Leaf]  # of each member, the tokens after the compared ones


@dataclass(slots=True)
class _Plan:
    """How rows of one conversation shape are encoded.

    frame: None if the chat template reads the texts: each row then has its own frame.
    groups: None: tokenise every answer of every row.
    """

    frame: _Frame | None
    groups: list[_Group] | None
    checks_left: int = FULL_CHECKS


class AskEncoder:
    """Encodes conversations that end with a user turn, with queries appended to that turn.

    Arguments:
        encoder, prompts: encode whole conversations, and conversations as prompts.
        queries: each with at least one non-empty answer.
        stop_ids: ids of the tokens that end an answer.

    `encode` raises ConfigError where the first tokens of two answers are the same.
    """

    def __init__(
        self,
        encoder: Encoder,
        prompts: PromptEncoder,
        queries: Sequence[Query],
        stop_ids: frozenset[int],
    ) -> None:
        assert queries and all(q.answers and all(q.answers) for q in queries), (
            "each query needs answers that are not empty"
        )
        self.encoder, self.prompts, self.stop_ids = encoder, prompts, stop_ids
        self.pairs = [(q, a) for q in queries for a in q.answers]
        self.n_answers = len(self.pairs)
        self._plans: dict[object, _Plan] = {}
        self._tries: dict[object, Trie] = {}
        self._is_bpe = type(encoder.tokenizer.backend_tokenizer.model).__name__ == "BPE"

    def encode(self, conversations: Sequence[Conversation]) -> list[EncodedText | str]:
        """The trunk of each conversation with its trie, or why the row cannot be encoded."""
        out: list[EncodedText | str] = [""] * len(conversations)
        strings: list[str] = []
        # (conversation, plan, groups, index of its first string)
        by_group: list[tuple[int, _Plan, list[_Group], int]] = []
        for i, conv in enumerate(conversations):
            try:
                plan = self._plans.get(conv.shape)
                if plan is None:
                    plan = self._plans[conv.shape] = self._plan(conv)
                if plan.groups is None or plan.frame is None:
                    out[i] = self._from_leaves(conv, self._tokenize_all(conv, plan.frame)[0])
                    continue
                group_prompts = [
                    self._prompt_with_answer(conv, plan.frame, *self.pairs[g.members[0]])[0]
                    for g in plan.groups
                ]
            except RenderError as error:
                out[i] = str(error)
                continue
            by_group.append((i, plan, plan.groups, len(strings)))
            strings += group_prompts
        tokens = [ids for ids, _ in self._tokenize(strings, False)]
        for i, plan, groups, first in by_group:
            group_tokens = tokens[first : first + len(groups)]
            try:
                out[i] = self._from_groups(conversations[i], plan, groups, group_tokens)
            except RenderError as error:
                out[i] = str(error)
        return out

    # -------------------------------------------------------------------------------------- one row

    def _from_groups(
        self, conv: Conversation, plan: _Plan, groups: list[_Group], tokens: list[list[int]]
    ) -> EncodedText | str:
        """From the tokens of one prompt per group; tokenised in full where that is not safe."""
        heads = []
        for group, ids in zip(groups, tokens, strict=True):
            if ids[-len(group.known_suffix) :] != group.known_suffix:
                return self._from_leaves(conv, self._tokenize_all(conv, plan.frame)[0])
            heads.append(ids[: len(ids) - len(group.known_suffix) + GUARD])
        if plan.checks_left and plan.groups is not None:
            plan.checks_left -= 1
            expected = self._tokenize_all(conv, plan.frame)[0]
            found: list[Leaf | None] = [None] * self.n_answers
            for group, head in zip(groups, heads, strict=True):
                for k, tail in zip(group.members, group.tails, strict=True):
                    found[k] = Leaf((*head, *tail.ids), len(head) + tail.first)
            if found != expected:
                plan.groups = None
                return self._from_leaves(conv, expected)
        trunk = _common_length(heads)
        rests = [head[trunk:] for head in heads]
        key = (conv.shape, tuple(map(tuple, rests)))
        trie = self._tries.get(key)
        if trie is None:
            leaves: list[Leaf] = [Leaf((), 0)] * self.n_answers
            for group, rest in zip(groups, rests, strict=True):
                for k, tail in zip(group.members, group.tails, strict=True):
                    leaves[k] = Leaf((*rest, *tail.ids), len(rest) + tail.first)
            trie = self._new_trie(key, leaves)
        return self._encoded(conv, heads[0][:trunk], trie)

    def _from_leaves(self, conv: Conversation, leaves: list[Leaf]) -> EncodedText | str:
        """From the tokens of all whole prompts."""
        trunk = min(
            _common_length([leaf.ids for leaf in leaves]), min(leaf.first for leaf in leaves)
        )
        rests = [Leaf(leaf.ids[trunk:], leaf.first - trunk) for leaf in leaves]
        key = (conv.shape, tuple(rests))
        trie = self._tries.get(key) or self._new_trie(key, rests)
        return self._encoded(conv, list(leaves[0].ids[:trunk]), trie)

    def _new_trie(self, key: object, leaves: list[Leaf]) -> Trie:
        trie = build_trie(leaves)
        self._check_first_tokens(trie)
        if len(self._tries) >= MAX_CACHED_TRIES:
            self._tries.clear()
        self._tries[key] = trie
        return trie

    def _encoded(self, conv: Conversation, ids: list[int], trie: Trie) -> EncodedText | str:
        image = self.encoder.image_token_id
        image_positions = [p for p, t in enumerate(ids) if t == image]
        if len(image_positions) != len(conv.images):
            in_query = int((trie.ids == image).sum())
            where = "after the query" if in_query else f"{len(image_positions)} times"
            return f"the chat template shows the row's {len(conv.images)} images {where}"
        return EncodedText(ids, image_positions, [], trie=trie)

    def _check_first_tokens(self, trie: Trie) -> None:
        """Raises ConfigError if two answers of a query would be read from the same logit."""
        seen: dict[tuple[int, int], int] = {}
        for source, target, answer in zip(
            trie.source.tolist(), trie.target.tolist(), trie.answer.tolist(), strict=True
        ):
            query, text = self.pairs[answer]
            if query.whole:
                continue
            other_query, other_text = self.pairs[seen.setdefault((source, target), answer)]
            if other_query == query and other_text != text:
                raise ConfigError(
                    f"The answers {other_text!r} and {text!r} begin with the same token for this "
                    "model, so their first tokens cannot tell them apart. Ask for whole answers, "
                    "or word them differently."
                )

    # -------------------------------------------------------------------------------- whole prompts

    def _plan(self, conv: Conversation) -> _Plan:
        """For the shape of `conv`; where the template does not read the texts, any row of that
        shape has the same frame."""
        query, answer = self.pairs[0]
        if not (
            self.encoder.is_text_independent(_with_answer(conv, query, answer))
            and self.prompts.is_text_independent(_with_query(conv, query))
        ):
            return _Plan(None, None)
        frame = self._frame(conv, query, answer)
        return _Plan(frame, self._groups(conv, frame) if self._is_bpe else None)

    def _frame(self, conv: Conversation, query: Query, answer: str) -> _Frame:
        prompt = self._prompt(conv, query)
        string, spans = self.encoder.render(_with_answer(conv, query, answer))
        if not spans:
            raise RenderError(f"the chat template does not write the answer {answer!r}")
        _, start, end = spans[-1]
        # A template may write a finished turn differently from its generation prompt; there is no
        # separator then.
        return _Frame(
            string[len(prompt) : start] if string.startswith(prompt) else "", string[end:]
        )

    def _groups(self, conv: Conversation, frame: _Frame) -> list[_Group] | None:
        """Answers grouped by the beginnings of their queries; None if a query's words cannot be
        located or are too few tokens."""
        leaves, token_ids, token_starts = self._tokenize_all(conv, frame)
        query_starts = []  # of each answer: the first token inside its query's own words
        for k, (query, _) in enumerate(self.pairs):
            begin = self._prompt(conv, query).rfind(query.text.strip())
            if begin < 0 or not query.text.strip():
                return None
            query_starts.append(bisect_left(token_starts[k], begin))
        groups: list[list[int]] = []
        for k in range(self.n_answers):
            for group in groups:
                common = _common_length([leaves[group[0]].ids, leaves[k].ids])
                if common >= query_starts[group[0]] + GUARD + 3:
                    group.append(k)
                    break
            else:
                groups.append([k])
        out = []
        for members in groups:
            common = _common_length([leaves[k].ids for k in members])
            split = min(common, *(leaves[k].first for k in members)) - 1
            if split - GUARD < max(query_starts[k] for k in members):
                return None
            tails = [Leaf(leaves[k].ids[split:], leaves[k].first - split) for k in members]
            out.append(_Group(members, token_ids[members[0]][split - GUARD :], tails))
        return out

    def _tokenize_all(
        self, conv: Conversation, frame: _Frame | None
    ) -> tuple[list[Leaf], list[list[int]], list[list[int]]]:
        """For each answer: its leaf with all tokens of the prompt, the token ids of the whole
        string, and the character at which each token starts."""
        strings, spans = [], []
        for query, answer in self.pairs:
            string, start = self._prompt_with_answer(
                conv, frame or self._frame(conv, query, answer), query, answer
            )
            strings.append(string)
            spans.append((start, start + len(answer)))
        leaves, token_ids, token_starts = [], [], []
        tokens = self._tokenize(strings, True)
        for (query, answer), (a, b), (ids, offsets) in zip(self.pairs, spans, tokens, strict=True):
            starts, ends = [x for x, _ in offsets], [y for _, y in offsets]
            first, last = bisect_right(ends, a), bisect_left(starts, b)
            while first < last and ends[first] == starts[first]:
                first += 1
            if first >= last or first == 0:
                raise RenderError(f"the answer {answer!r} has no token of its own")
            if not query.whole:
                last = first + 1
            elif query.end and last < len(ids) and ids[last] in self.stop_ids:
                last += 1
            leaves.append(Leaf(tuple(ids[:last]), first))
            token_ids.append(ids)
            token_starts.append(starts)
        return leaves, token_ids, token_starts

    def _prompt_with_answer(
        self, conv: Conversation, frame: _Frame, query: Query, answer: str
    ) -> tuple[str, int]:
        """The whole prompt with the answer, and the character at which the answer starts."""
        front = self._prompt(conv, query) + frame.separator
        return front + answer + frame.suffix, len(front)

    def _prompt(self, conv: Conversation, query: Query) -> str:
        return self.prompts.render(_with_query(conv, query))[0]

    def _tokenize(
        self, strings: list[str], offsets: bool
    ) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Token ids and, if `offsets`, character offsets of each string, as `Encoder.encode` does
        it."""
        tokenizer = self.encoder.tokenizer
        bos = tokenizer.bos_token
        out: list[tuple[list[int], list[tuple[int, int]]]] = []
        for with_bos, group in itertools.groupby(
            strings, key=lambda s: bool(bos) and s.startswith(bos)
        ):
            encoding = tokenizer(
                list(group),
                add_special_tokens=not with_bos,
                return_offsets_mapping=offsets,
                return_attention_mask=False,
                verbose=False,
            )
            ids = encoding["input_ids"]
            out += zip(ids, encoding["offset_mapping"] if offsets else [[]] * len(ids), strict=True)
        return out


def _with_query(conv: Conversation, query: Query) -> Conversation:
    """The conversation with the query's text at the end of the last user turn."""
    *front, user = conv.messages
    last = user.parts[-1]
    parts = (*user.parts, query.text) if last is None else (*user.parts[:-1], last + query.text)
    messages = (*front, Message(user.role, parts))
    return replace(conv, messages=messages, scored_from=len(messages))


def _with_answer(conv: Conversation, query: Query, answer: str) -> Conversation:
    """`_with_query`, and the answer as the assistant's turn."""
    prompt = _with_query(conv, query)
    return replace(prompt, messages=(*prompt.messages, Message("assistant", (answer,))))


def _common_length(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the longest common prefix."""
    first = np.asarray(sequences[0])
    common = len(first)
    for sequence in sequences[1:]:
        other = np.asarray(sequence[:common])
        common = min(common, len(other))
        differ = np.flatnonzero(first[:common] != other[:common])
        common = int(differ[0]) if len(differ) else common
    return common
