"""A model's chat template, rendered within limits, and whether what it does depends on the texts
that it is given.

Rendering uses transformers' own Jinja environment and gives the string that
`processor.apply_chat_template` gives; this is compared once, when the template is opened. Where the
two differ (a processor with Python code of its own), the processor renders, and nothing is assumed
about it.

Both additions are made to the syntax tree of the template, so that they hold whatever the template
is: `_Counting` charges every loop step, call and string, and `_Watching` sends every expression
that could read a text (comparisons, conditions, indexing, filters, calls …) through a method of
`_Watch`, which notes when a marked text passes. A rendering in which none passed took its way
without looking at the texts: other texts in their places come out in the same places, unchanged or
with white space stripped from their ends. (Texts of white space only are not covered: stripping one
of those may go on to its neighbour.)

Relies on one private function of transformers, `_compile_jinja_template`; a test guards it.

Past 400 lines because what is followed through a template, and what ends following it, must be read
together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from jinja2 import Template, nodes
from jinja2.runtime import Macro
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from thresher.errors import ModelError

MARK = "\ue000"  # begins the mark that stands for a text; no row's text holds it
MOST_STEPS = 2_000_000  # of one rendering: loop steps, its strings in KiB, and its calls
A_CALL = 20  # steps, by the time that a macro takes
MOST_CHARACTERS = 2**24  # of one string
_NAME = "thresher_watch"
T = TypeVar("T", bound=NodeTransformer)
_DIGITS = re.compile(r"\d+")
_STRIPS = ("strip", "lstrip", "rstrip")
_TYPE_TESTS = frozenset(
    (
        "defined",
        "undefined",
        "none",
        "string",
        "mapping",
        "iterable",
        "sequence",
        "number",
        "integer",
        "float",
    )
    + ("boolean", "callable")
)
_OF_STRUCTURE = ("list", "first", "last", "length", "count", "reverse")
_BY_ATTRIBUTE = ("selectattr", "rejectattr")
# Every other node (filter blocks, includes, recursive loops …) is taken to read the texts.
_KNOWN = (
    *(
        nodes.Template,
        nodes.Output,
        nodes.TemplateData,
        nodes.Const,
        nodes.Name,
        nodes.NSRef,
        nodes.Tuple,
        nodes.List,
    ),
    *(
        nodes.Dict,
        nodes.Pair,
        nodes.Keyword,
        nodes.For,
        nodes.If,
        nodes.Macro,
        nodes.CallBlock,
        nodes.With,
    ),
    *(
        nodes.Assign,
        nodes.AssignBlock,
        nodes.CondExpr,
        nodes.Filter,
        nodes.Test,
        nodes.Call,
        nodes.Getitem,
    ),
    *(
        nodes.Getattr,
        nodes.Slice,
        nodes.Concat,
        nodes.Compare,
        nodes.Operand,
        nodes.BinExpr,
        nodes.UnaryExpr,
    ),
    *(nodes.ExtensionAttribute, nodes.Continue, nodes.Break, nodes.Scope),
)


class Unrenderable(Exception):
    """Why a conversation cannot be written as the chat template writes it; becomes the row's
    error."""


class Endless(Unrenderable):
    """The template takes more steps, or writes more, than any real one does."""


class ChatTemplate:
    """processor: of a model, with a `chat_template`. arguments: variables of the template beside
    the messages."""

    def __init__(self, processor: Any, arguments: Mapping[str, Any]) -> None:
        self._processor = processor
        self._arguments = dict(arguments)
        self._source: str = processor.chat_template
        self._variables = {
            **{
                k: v
                for k, v in processor.tokenizer.special_tokens_map.items()
                if isinstance(v, (str, list))
            },
            "tools": None,
            "documents": None,
            "add_generation_prompt": False,
            **arguments,
        }
        try:
            self._counting, _ = _compiled(self._source, _Counting)
        except Exception as e:
            raise ModelError(f"The model's chat template is no valid Jinja template: {e}") from e
        self._watching: Template | None = None
        self._ours = True
        self._ours = self._is_ours()

    def render(self, messages: list[dict[str, Any]]) -> str:
        """The conversation as one string. Raises Unrenderable."""
        try:
            if self._ours:
                return self._counting.render(
                    {**self._variables, "messages": messages, _NAME: _Watch()}
                )
            return str(
                self._processor.apply_chat_template(messages, tokenize=False, **self._arguments)
            )
        except Endless:
            raise
        except Exception as e:  # templates raise their own errors for turns that they do not allow
            raise Unrenderable(
                f"the model's chat template refuses these turns: {e or type(e).__name__}"
            ) from e

    def reads_texts(self, messages: list[dict[str, Any]]) -> bool:
        """Whether what is written for these turns may depend on their texts; `messages` hold marks
        in place of texts."""
        if not self._ours:
            return True
        if self._watching is None:
            self._watching, transformer = _compiled(self._source, _Watching)
            self._ours &= not transformer.unknown
        watch = _Watch()
        try:
            string = self._watching.render({**self._variables, "messages": messages, _NAME: watch})
        # whatever the watched template does not take, the plain one says
        except Exception:  # noqa: BLE001
            return True
        return watch.looked or not self._ours or string != self.render(messages)

    def _is_ours(self) -> bool:
        """Whether our rendering is the processor's. Raises ModelError for a template that does not
        come to an end."""
        parts = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
        turns = [
            {"role": "user", "content": parts},
            {"role": "assistant", "content": [{"type": "text", "text": "A."}]},
        ]
        try:
            ours = self.render(turns)
        except Endless as e:
            raise ModelError(f"The model cannot be used: {e}") from e
        except Unrenderable:
            # the processor renders with the same template, and would refuse these turns too
            return True
        try:
            theirs = self._processor.apply_chat_template(turns, tokenize=False, **self._arguments)
        except Exception:  # noqa: BLE001 - then it is the processor that says why, row by row
            return False
        return bool(ours == theirs)


@lru_cache(maxsize=16)
def _compiled(source: str, transformer: type[T]) -> tuple[Template, T]:
    """The template with the additions of `transformer`, and the transformer after its visit."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    # of an empty template: compiling the real one would work out its constants, whatever their size
    environment = _compile_jinja_template("").environment
    visitor = transformer()
    tree = visitor.visit(environment.parse(source))
    code = environment.compile(tree)
    return Template.from_code(environment, code, environment.make_globals({})), visitor


class _Watch:
    """What a rendering did so far. `looked`: it read a marked text; `steps`: see MOST_STEPS."""

    def __init__(self) -> None:
        self.looked = False
        self.steps = 0

    # --------------------------------------------------------------------------------------- limits

    def count(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MOST_STEPS:
            raise Endless(
                f"its chat template comes to no end (more than {MOST_STEPS:,} steps for one "
                "conversation)."
            )

    def loop(self, items: Any) -> Any:
        try:
            n = len(items)
        except TypeError:
            return self._counted(items)
        self.count(n)
        return items

    def _counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.count(1)
            yield item

    def function(self, callee: Any) -> Any:
        self.count(A_CALL)
        return callee

    def sized(self, value: Any) -> Any:
        if isinstance(value, str):
            if len(value) > MOST_CHARACTERS:
                raise Endless(
                    f"its chat template writes a text of more than {MOST_CHARACTERS:,} characters."
                )
            self.count(len(value) >> 10)
        # such as the width of a padded text
        elif isinstance(value, int) and value > MOST_CHARACTERS:
            raise Endless(f"its chat template counts to more than {MOST_CHARACTERS:,}.")
        return value

    def times(self, left: Any, right: Any) -> Any:
        for text, n in ((left, right), (right, left)):
            if isinstance(text, (str, list, tuple)) and isinstance(n, int):
                self.sized(len(text) * n)
        return left * right

    def power(self, left: Any, right: Any) -> Any:
        self.sized(abs(left) + 1)
        self.sized(right * 1024)
        return left**right

    def formatted(self, text: Any) -> Any:
        """A format may ask for any width."""
        for digits in _DIGITS.findall(text) if isinstance(text, str) else ():
            self.sized(int(digits[:12]))
        return text

    # ---------------------------------------------------------------------------------------- texts

    def look(self, value: Any) -> Any:
        """The value is read, whatever it contains."""
        if isinstance(value, Iterator):
            value = list(value)
        self.looked |= _marked(value)
        return value

    def string(self, value: Any) -> Any:
        """The value is read if it is a text: its truth, its characters. Of a list only its length,
        of a dict its keys."""
        self.looked |= isinstance(value, str) and MARK in value
        return value

    def container(self, value: Any) -> Any:
        """Something is looked for in it."""
        return value if isinstance(value, Mapping) else self.look(value)

    def written(self, value: Any) -> Any:
        """A text goes into the output as it is, a list as Python writes it."""
        if not isinstance(value, str):
            value = self.look(value)
        return value

    def joined(self, items: Any) -> Any:
        """Its items are written one after the other."""
        self.string(items)
        return items if isinstance(items, str) else [self.written(item) for item in items]

    def method(self, value: Any, name: str, arguments: bool) -> Any:
        """A method of the value is called."""
        if arguments or name not in _STRIPS:
            self.string(value)
        return value

    def macro(self, callee: Any) -> Any:
        """It is called with texts that it does not read itself."""
        self.looked |= not (
            isinstance(callee, Macro)
            or (isinstance(callee, type) and issubclass(callee, Namespace))
        )
        return self.function(callee)

    def attribute(self, items: Any, name: str) -> Any:
        """One attribute of each item is read."""
        items = items if isinstance(items, str) else list(items)
        for item in items:
            self.looked |= _marked(item.get(name) if isinstance(item, Mapping) else item)
        return items


def _marked(value: Any) -> bool:
    if isinstance(value, str):
        return MARK in value
    if isinstance(value, Mapping):
        return any(_marked(k) or _marked(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return any(map(_marked, value))
    return isinstance(value, Iterator)


def _through(method: str, *arguments: Any) -> nodes.Call:
    """A call of a method of the rendering's `_Watch`."""
    return nodes.Call(
        nodes.Getattr(nodes.Name(_NAME, "load"), method, "load"),
        [a if isinstance(a, nodes.Node) else nodes.Const(a) for a in arguments],
        *([], None, None),
    )


class _Counting(NodeTransformer):
    """Loops, calls and strings are charged."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _through("loop", node.iter)
        return node

    def _given(self, node: Any) -> None:
        node.args = [_through("sized", a) for a in node.args]
        for keyword in node.kwargs:
            keyword.value = _through("sized", keyword.value)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        self.generic_visit(node)
        self._given(node)
        if isinstance(node.node, nodes.Getattr) and node.node.attr in ("format", "format_map"):
            node.node.node = _through("formatted", node.node.node)
        if not isinstance(node.node, nodes.ExtensionAttribute):
            node.node = _through("function", node.node)
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        self.generic_visit(node)
        self._given(node)
        if node.node is not None:
            node.node = _through("formatted" if node.name == "format" else "sized", node.node)
        return node

    def visit_Mul(self, node: nodes.Mul) -> nodes.Node:
        self.generic_visit(node)
        return _through("sized", _through("times", node.left, node.right))

    def visit_Pow(self, node: nodes.Pow) -> nodes.Node:
        self.generic_visit(node)
        return _through("power", node.left, node.right)

    def visit_Mod(self, node: nodes.Mod) -> nodes.Node:
        self.generic_visit(node)
        node.left = _through("formatted", node.left)
        return _through("sized", node)

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [
            x if isinstance(x, nodes.TemplateData) else _through("sized", x) for x in node.nodes
        ]
        return node

    def _sized(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _through("sized", node)

    visit_Concat = visit_Add = _sized


class _Watching(NodeTransformer):
    """Every expression that may read a text goes through a `_Watch`. `unknown`: the template has a
    node of another kind."""

    def __init__(self) -> None:
        self.unknown = False
        self._macros: set[str] = set()

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        self.unknown |= not isinstance(node, _KNOWN)
        return super().visit(node, *args, **kwargs)

    def visit_Template(self, node: nodes.Template) -> nodes.Node:
        self._macros = {m.name for m in node.find_all(nodes.Macro)} | {"namespace", "caller"}
        return self.generic_visit(node)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.unknown |= node.recursive
        self.generic_visit(node)
        node.iter = _through("loop", _through("string", node.iter))
        if node.test is not None:
            node.test = _through("string", node.test)
        return node

    def _tested(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        node.test = _through("string", node.test)
        return node

    visit_If = visit_CondExpr = _tested

    def _either(self, node: Any) -> nodes.Node:
        """`a or b`: the truth of a is read, and one of the two is the value."""
        self.generic_visit(node)
        node.left = _through("string", node.left)
        return node

    visit_And = visit_Or = _either

    def visit_Not(self, node: nodes.Not) -> nodes.Node:
        self.generic_visit(node)
        node.node = _through("string", node.node)
        return node

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:
        self.unknown |= node.filter is not None
        return self.generic_visit(node)

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [
            x if isinstance(x, nodes.TemplateData) else _through("written", x) for x in node.nodes
        ]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_through("written", x) for x in node.nodes]
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _through("look", node.expr)
        for operand in node.ops:
            operand.expr = _through(
                "container" if operand.op in ("in", "notin") else "look", operand.expr
            )
        return node

    def _read(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        node.left, node.right = _through("look", node.left), _through("look", node.right)
        return node

    visit_Mul = visit_Mod = visit_Sub = visit_Div = visit_FloorDiv = visit_Pow = _read

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        node.key = _through("look", node.key)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        node.node = _through("string", node.node)
        if not isinstance(node.arg, nodes.Slice):
            node.arg = _through("look", node.arg)
        return node

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:
        self.generic_visit(node)
        node.node = _through("string", node.node)
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        callee = node.node
        flows = isinstance(callee, nodes.Name) and callee.name in self._macros
        plain = not (node.args or node.kwargs or node.dyn_args or node.dyn_kwargs)
        if isinstance(callee, nodes.Getattr):
            callee.node = _through("method", self.visit(callee.node), callee.attr, not plain)
        else:
            node.node = self.visit(callee)
        node.args = [self.visit(a) for a in node.args]
        node.kwargs = [self.visit(a) for a in node.kwargs]
        self.unknown |= node.dyn_args is not None or node.dyn_kwargs is not None
        if not flows:
            node.args = [_through("look", a) for a in node.args]
            for keyword in node.kwargs:
                keyword.value = _through("look", keyword.value)
        if not isinstance(callee, nodes.ExtensionAttribute):
            node.node = _through("macro" if flows else "function", node.node)
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:
        self.generic_visit(node)
        if node.name not in _TYPE_TESTS:
            node.node = _through("look", node.node)
            node.args = [_through("look", a) for a in node.args]
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        name = node.name
        self.unknown |= (
            node.node is None or node.dyn_args is not None or node.dyn_kwargs is not None
        )
        self.generic_visit(node)
        plain = not (node.args or node.kwargs)
        first = node.args[0] if node.args else None
        if node.node is None:
            return node
        if name in ("trim", "string", "safe") and plain:
            node.node = _through("written", node.node)
        elif name in _OF_STRUCTURE and plain:
            node.node = _through("string", node.node)
        elif name == "join" and not node.kwargs and len(node.args) <= 1:
            node.node = _through("joined", node.node)
        elif name == "map" and not node.args and [k.key for k in node.kwargs] == ["attribute"]:
            node.node = _through("string", node.node)
        elif name in ("default", "d") and not node.kwargs and len(node.args) == 1:
            pass  # one of the two, by whether the first is defined
        elif (
            name in _BY_ATTRIBUTE and isinstance(first, nodes.Const) and "." not in str(first.value)
        ):
            node.node = _through("attribute", node.node, first.value)
            node.args = [first, *(_through("look", a) for a in node.args[1:])]
        else:
            node.node = _through("look", node.node)
            node.args = [_through("look", a) for a in node.args]
            for keyword in node.kwargs:
                keyword.value = _through("look", keyword.value)
        return node
