"""Rows with many queries to token ids: the trunk that all prompts of a row share, and the tree of
what follows it.

What counts is the tokenisation of each whole prompt with each answer, tokenised at once. Doing that
for every answer of every row costs more than a small model does, so queries that begin alike form a
group, and a row tokenises one prompt a group: what follows some token inside the group's own words
is the same in every row. That holds for BPE, where a border between two tokens depends on these two
only; the first rows of each shape are tokenised in full all the same, and compared.

An answer's tokens are those that hold a character of it: a separator that the template puts before
an answer ("ASSISTANT: 3") belongs to the prompt if it is a token of its own, and to the answer if
it is merged into the answer's first token.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thresher.backends.hf.conversation import Conversation, Message
from thresher.backends.hf.encode import Encoder, PromptEncoder, Text
from thresher.backends.hf.template import Unrenderable
from thresher.backends.hf.trie import Leaf, Tree, grow
from thresher.errors import ConfigError
from thresher.types import Query

# tokens of the group's own words that must agree before the point where known tokens take over
GUARD = 2
TREES_KEPT = 256


@dataclass(slots=True)
class _Frame:
    """What a template writes between its invitation to answer and an answer, and behind the
    answer."""

    separator: str
    behind: str


@dataclass(slots=True)
class _Group:
    """Answers whose prompts begin alike; `members[0]` is tokenised for every row."""

    members: list[int]  # positions among all answers
    # the last tokens of members[0]: GUARD tokens, then all that is the same in every row
    known: list[int]
    tails: list[Leaf]  # of each member, from the point where the known tokens take over


@dataclass(slots=True)
class _Plan:
    """How rows of one conversation shape are encoded. `groups` None: tokenise every answer of every
    row.

    `frame` None: the chat template reads the texts, so each row has a frame of its own (and
    `groups` is None)."""

    frame: _Frame | None
    groups: list[_Group] | None
    checks_left: int = 3


class AskEncoder:
    """Encodes conversations that end with a user turn; `queries` follow in that turn. Raises
    ConfigError where answers cannot be told apart by their first tokens."""

    def __init__(
        self,
        encoder: Encoder,
        prompts: PromptEncoder,
        queries: Sequence[Query],
        stops: frozenset[int],
    ) -> None:
        assert queries and all(q.answers and all(q.answers) for q in queries), (
            "each query needs answers that are not empty"
        )
        self.encoder, self.prompts, self.stops = encoder, prompts, stops
        self.asked = [(q, a) for q in queries for a in q.answers]
        self.answers = len(self.asked)
        self._plans: dict[object, _Plan] = {}
        self._trees: dict[object, Tree] = {}
        self._local = type(encoder.tokenizer.backend_tokenizer.model).__name__ == "BPE"

    def encode(self, conversations: Sequence[Conversation]) -> list[Text | str]:
        """A Text of the trunk with its tree, or why the row cannot be encoded, for each
        conversation."""
        out: list[Text | str] = [""] * len(conversations)
        strings: list[str] = []
        quick: list[tuple[int, _Plan, list[_Group], int]] = []
        for i, conv in enumerate(conversations):
            try:
                plan = self._plans.get(conv.shape)
                if plan is None:
                    plan = self._plans[conv.shape] = self._plan(conv)
                if plan.groups is None or plan.frame is None:
                    out[i] = self._text(conv, self._in_full(conv, plan.frame)[0])
                    continue
                firsts = [
                    self._string(conv, plan.frame, *self.asked[g.members[0]])[0]
                    for g in plan.groups
                ]
            except Unrenderable as why:
                out[i] = str(why)
                continue
            quick.append((i, plan, plan.groups, len(strings)))
            strings += firsts
        tokens = [ids for ids, _ in self._tokens(strings, False)]
        for i, plan, groups, at in quick:
            try:
                out[i] = self._quick(conversations[i], plan, groups, tokens[at : at + len(groups)])
            except Unrenderable as why:
                out[i] = str(why)
        return out

    # -------------------------------------------------------------------------------------- one row

    def _quick(
        self, conv: Conversation, plan: _Plan, groups: list[_Group], tokens: list[list[int]]
    ) -> Text | str:
        """From one prompt a group; in full where that is not safe."""
        heads = []
        for group, ids in zip(groups, tokens, strict=True):
            if ids[-len(group.known) :] != group.known:
                return self._text(conv, self._in_full(conv, plan.frame)[0])
            heads.append(ids[: len(ids) - len(group.known) + GUARD])
        if plan.checks_left and plan.groups is not None:
            plan.checks_left -= 1
            want = self._in_full(conv, plan.frame)[0]
            got: list[Leaf | None] = [None] * self.answers
            for group, head in zip(groups, heads, strict=True):
                for k, tail in zip(group.members, group.tails, strict=True):
                    got[k] = Leaf((*head, *tail.ids), len(head) + tail.first)
            if got != want:
                plan.groups = None
                return self._text(conv, want)
        shared = _common(heads)
        rests = [head[shared:] for head in heads]
        key = (conv.shape, tuple(map(tuple, rests)))
        tree = self._trees.get(key)
        if tree is None:
            leaves: list[Leaf] = [Leaf((), 0)] * self.answers
            for group, rest in zip(groups, rests, strict=True):
                for k, tail in zip(group.members, group.tails, strict=True):
                    leaves[k] = Leaf((*rest, *tail.ids), len(rest) + tail.first)
            tree = self._grown(key, leaves)
        return self._trunk(conv, heads[0][:shared], tree)

    def _text(self, conv: Conversation, leaves: list[Leaf]) -> Text | str:
        """From the tokens of all whole prompts."""
        shared = min(_common([leaf.ids for leaf in leaves]), min(leaf.first for leaf in leaves))
        rests = [Leaf(leaf.ids[shared:], leaf.first - shared) for leaf in leaves]
        key = (conv.shape, tuple(rests))
        tree = self._trees.get(key) or self._grown(key, rests)
        return self._trunk(conv, list(leaves[0].ids[:shared]), tree)

    def _grown(self, key: object, leaves: list[Leaf]) -> Tree:
        tree = grow(leaves)
        self._check_first_tokens(tree)
        if len(self._trees) >= TREES_KEPT:
            self._trees.clear()
        self._trees[key] = tree
        return tree

    def _trunk(self, conv: Conversation, ids: list[int], tree: Tree) -> Text | str:
        image = self.encoder.image_token_id
        holes = [p for p, t in enumerate(ids) if t == image]
        if len(holes) != len(conv.images):
            behind = int((tree.ids == image).sum())
            why = "behind the query" if behind else f"{len(holes)} times"
            return f"the chat template shows the row's {len(conv.images)} images {why}"
        return Text(ids, holes, [], tree)

    def _check_first_tokens(self, tree: Tree) -> None:
        seen: dict[tuple[int, int], int] = {}
        for where, token, answer in zip(
            tree.where.tolist(), tree.token.tolist(), tree.answer.tolist(), strict=True
        ):
            query, text = self.asked[answer]
            if query.whole:
                continue
            other = seen.setdefault((where, token), answer)
            if self.asked[other][0] == query and self.asked[other][1] != text:
                raise ConfigError(
                    f"The answers {self.asked[other][1]!r} and {text!r} begin with the same token "
                    "for this model, so their first tokens cannot tell them apart. Ask for whole "
                    "answers, or word them differently."
                )

    # -------------------------------------------------------------------------------- whole prompts

    def _plan(self, conv: Conversation) -> _Plan:
        """Of a shape: where the template does not read the texts, any row of the shape gives the
        same frame."""
        query, answer = self.asked[0]
        if not (
            self.encoder.proven(_answered(conv, query, answer))
            and self.prompts.proven(_with_query(conv, query))
        ):
            return _Plan(None, None)
        frame = self._frame(conv, query, answer)
        return _Plan(frame, self._groups(conv, frame) if self._local else None)

    def _frame(self, conv: Conversation, query: Query, answer: str) -> _Frame:
        prompt = self._prompt(conv, query)
        string, spans = self.encoder._render(_answered(conv, query, answer))
        if not spans:
            raise Unrenderable(f"the chat template does not write the answer {answer!r}")
        start, end = spans[-1]
        # a template may write a turn otherwise than its invitation to answer: then nothing stands
        # between
        return _Frame(
            string[len(prompt) : start] if string.startswith(prompt) else "", string[end:]
        )

    def _groups(self, conv: Conversation, frame: _Frame) -> list[_Group] | None:
        """Queries by their beginnings; None where their words cannot be found or are too few."""
        leaves, whole, starts = self._in_full(conv, frame)
        border = []  # of each answer: its first token that lies inside its query's own words
        for k, (query, _) in enumerate(self.asked):
            begin = self._prompt(conv, query).rfind(query.text.strip())
            if begin < 0 or not query.text.strip():
                return None
            border.append(bisect_left(starts[k], begin))
        groups: list[list[int]] = []
        for k in range(self.answers):
            for group in groups:
                if _common([leaves[group[0]].ids, leaves[k].ids]) >= border[group[0]] + GUARD + 3:
                    group.append(k)
                    break
            else:
                groups.append([k])
        out = []
        for members in groups:
            common = _common([leaves[k].ids for k in members])
            cut = min(common, *(leaves[k].first for k in members)) - 1
            if cut - GUARD < max(border[k] for k in members):
                return None
            tails = [Leaf(leaves[k].ids[cut:], leaves[k].first - cut) for k in members]
            out.append(_Group(members, whole[members[0]][cut - GUARD :], tails))
        return out

    def _in_full(
        self, conv: Conversation, frame: _Frame | None
    ) -> tuple[list[Leaf], list[list[int]], list[list[int]]]:
        """Of each answer: its leaf from the first token on, all tokens of its string, the character
        where each begins."""
        strings, spans = [], []
        for query, answer in self.asked:
            string, at = self._string(
                conv, frame or self._frame(conv, query, answer), query, answer
            )
            strings.append(string)
            spans.append((at, at + len(answer)))
        leaves, whole, begins = [], [], []
        tokens = self._tokens(strings, True)
        for (query, answer), (a, b), (ids, offsets) in zip(self.asked, spans, tokens, strict=True):
            starts, ends = [x for x, _ in offsets], [y for _, y in offsets]
            first, last = bisect_right(ends, a), bisect_left(starts, b)
            while first < last and ends[first] == starts[first]:
                first += 1
            if first >= last or first == 0:
                raise Unrenderable(f"the answer {answer!r} has no token of its own")
            if not query.whole:
                last = first + 1
            elif query.end and last < len(ids) and ids[last] in self.stops:
                last += 1
            leaves.append(Leaf(tuple(ids[:last]), first))
            whole.append(ids)
            begins.append(starts)
        return leaves, whole, begins

    def _string(
        self, conv: Conversation, frame: _Frame, query: Query, answer: str
    ) -> tuple[str, int]:
        """The whole prompt with the answer, and where the answer begins."""
        front = self._prompt(conv, query) + frame.separator
        return front + answer + frame.behind, len(front)

    def _prompt(self, conv: Conversation, query: Query) -> str:
        return self.prompts._render(_with_query(conv, query))[0]

    def _tokens(
        self, strings: list[str], offsets: bool
    ) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Ids and (if asked for) character offsets of each string, as `Encoder.encode`
        tokenises."""
        tokenizer = self.encoder.tokenizer
        bos = tokenizer.bos_token
        out: list[tuple[list[int], list[tuple[int, int]]]] = []
        for with_bos, group in itertools.groupby(
            strings, key=lambda s: bool(bos) and s.startswith(bos)
        ):
            got = tokenizer(
                list(group),
                add_special_tokens=not with_bos,
                return_offsets_mapping=offsets,
                return_attention_mask=False,
                verbose=False,
            )
            ids = got["input_ids"]
            out += zip(ids, got["offset_mapping"] if offsets else [[]] * len(ids), strict=True)
        return out


def _with_query(conv: Conversation, query: Query) -> Conversation:
    """The query's text at the end of the last user turn."""
    *front, user = conv.messages
    last = user.parts[-1]
    parts = (*user.parts, query.text) if last is None else (*user.parts[:-1], last + query.text)
    return Conversation((*front, Message(user.role, parts)), conv.images, len(conv.messages))


def _answered(conv: Conversation, query: Query, answer: str) -> Conversation:
    """`_with_query`, and the answer in a turn of its own."""
    talk = _with_query(conv, query)
    return Conversation(
        (*talk.messages, Message("assistant", (answer,))), conv.images, len(talk.messages)
    )


def _common(rows: Sequence[Sequence[int]]) -> int:
    """Length of the beginning that all rows share."""
    first = np.asarray(rows[0])
    shared = len(first)
    for row in rows[1:]:
        other = np.asarray(row[:shared])
        shared = min(shared, len(other))
        differ = np.flatnonzero(first[:shared] != other[:shared])
        shared = int(differ[0]) if len(differ) else shared
    return shared
