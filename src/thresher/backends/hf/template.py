"""A model's chat template, rendered within limits, and whether its control flow depends on the
texts of the messages (taint tracking).

Rendering uses transformers' own Jinja environment and gives the string that
`processor.apply_chat_template` gives; this is compared once, when the template is loaded. If the
two differ (a processor with Python code of its own), the processor renders, and nothing is assumed
about it.

Both are done by rewriting the template's syntax tree, so that they work for any template:
`_EnforceLimits` charges every loop step, call and string, and `_TrackReads` passes every value that
an expression could read (comparisons, conditions, indexing, filters, calls …) to a method of
`_Monitor`, which records when it is a marked text. If a rendering read no marked text, its control
flow did not depend on the texts: other texts appear in the same places of the output, unchanged or
with white space stripped from their ends. (Texts of white space only are not covered: stripping one
of those may continue into its neighbour.)

Relies on one private function of transformers, `_compile_jinja_template`; a test checks that it is
there.

Longer than 400 lines because what marks a text as read, and what does not, must be seen together.
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

from thresher.errors import ModelError, reason_of
from thresher.types import RowError

MARK = "\ue000"  # begins a mark that replaces a text; rows whose text contains it are refused
MAX_STEPS = 2_000_000  # of one rendering: loop steps, KiB of strings, and calls
STEPS_PER_CALL = 20  # measured: a macro takes as long as this many loop steps
MAX_CHARACTERS = 2**24  # of one string
_NAME = "thresher_monitor"
T = TypeVar("T", bound=NodeTransformer)
_DIGITS = re.compile(r"\d+")
_STRIP_METHODS = ("strip", "lstrip", "rstrip")
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
_STRUCTURE_FILTERS = ("list", "first", "last", "length", "count", "reverse")
_ATTRIBUTE_FILTERS = ("selectattr", "rejectattr")
# Every other node (filter blocks, includes, recursive loops …) is assumed to read the texts.
_SUPPORTED_NODES = (
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


class RenderError(Exception):
    """A conversation cannot be rendered. `str` gives the row's error, "kind: detail".

    Arguments:
        detail: what is wrong with the row.
        kind: of the row's error.
    """

    def __init__(self, detail: str, kind: str = "chat-template") -> None:
        super().__init__(str(RowError(kind, detail)))


class RenderLimitExceeded(RenderError):
    """The template takes more steps, or writes more text, than any real one."""


class ChatTemplate:
    """Renders a processor's `chat_template`.

    Arguments:
        processor: of a model.
        arguments: variables of the template beside the messages.

    Raises ModelError for a template that is not valid Jinja or does not terminate.
    """

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
            self._limited, _ = _compile(self._source, _EnforceLimits)
        except Exception as e:
            raise ModelError(
                f"The model's chat template is not valid Jinja: {reason_of(e)}."
            ) from e
        self._tracked: Template | None = None
        self._matches_processor = True
        self._matches_processor = self._check_processor()

    def render(self, messages: list[dict[str, Any]]) -> str:
        """The conversation as one string. Raises RenderError."""
        try:
            if self._matches_processor:
                return self._limited.render(
                    {**self._variables, "messages": messages, _NAME: _Monitor()}
                )
            return str(
                self._processor.apply_chat_template(messages, tokenize=False, **self._arguments)
            )
        except RenderLimitExceeded:
            raise
        except Exception as e:  # templates raise errors of their own for turns they do not allow
            raise RenderError(
                f"the model's chat template refuses these turns: {reason_of(e)}"
            ) from e

    def reads_texts(self, messages: list[dict[str, Any]]) -> bool:
        """Whether the rendering of these messages may depend on their texts.

        messages: with marks in place of texts.
        """
        if not self._matches_processor:
            return True
        if self._tracked is None:
            self._tracked, transformer = _compile(self._source, _TrackReads)
            self._matches_processor &= not transformer.unsupported
        monitor = _Monitor()
        try:
            string = self._tracked.render({**self._variables, "messages": messages, _NAME: monitor})
        # whatever the rewritten template does not support: `render` will report it
        except Exception:  # noqa: BLE001
            return True
        return (
            monitor.tainted_read or not self._matches_processor or string != self.render(messages)
        )

    def _check_processor(self) -> bool:
        """Whether our rendering equals the processor's. Raises ModelError for a template that does
        not terminate."""
        parts = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
        turns = [
            {"role": "user", "content": parts},
            {"role": "assistant", "content": [{"type": "text", "text": "A."}]},
        ]
        try:
            ours = self.render(turns)
        except RenderLimitExceeded as e:
            raise ModelError(f"The model cannot be used: {e}") from e
        except RenderError:
            # the processor renders with the same template, and would refuse these turns too
            return True
        try:
            theirs = self._processor.apply_chat_template(turns, tokenize=False, **self._arguments)
        except Exception:  # noqa: BLE001 - the processor will then report it, row by row
            return False
        return bool(ours == theirs)


@lru_cache(maxsize=16)
def _compile(source: str, transformer: type[T]) -> tuple[Template, T]:
    """The template rewritten by `transformer`, and the transformer after its visit."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    # for an empty template: compiling the real one would fold its constants, whatever their size
    environment = _compile_jinja_template("").environment
    visitor = transformer()
    tree = visitor.visit(environment.parse(source))
    code = environment.compile(tree)
    return Template.from_code(environment, code, environment.make_globals({})), visitor


class _Monitor:
    """The state of one rendering. Methods return the value that they are given (`multiply` and
    `power`: the result).

    tainted_read: whether a marked text was read.
    steps: see MAX_STEPS.
    """

    def __init__(self) -> None:
        self.tainted_read = False
        self.steps = 0

    # --------------------------------------------------------------------------------------- limits

    def charge(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise RenderLimitExceeded(
                f"its chat template does not terminate (more than {MAX_STEPS:,} steps for one "
                "conversation)."
            )

    def charge_loop(self, items: Any) -> Any:
        try:
            n = len(items)
        except TypeError:
            return self._charge_items(items)
        self.charge(n)
        return items

    def _charge_items(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.charge(1)
            yield item

    def charge_call(self, callee: Any) -> Any:
        self.charge(STEPS_PER_CALL)
        return callee

    def check_size(self, value: Any) -> Any:
        if isinstance(value, str):
            if len(value) > MAX_CHARACTERS:
                raise RenderLimitExceeded(
                    f"its chat template writes a text of more than {MAX_CHARACTERS:,} characters."
                )
            self.charge(len(value) >> 10)
        # such as the width of a padded text
        elif isinstance(value, int) and value > MAX_CHARACTERS:
            raise RenderLimitExceeded(f"its chat template counts to more than {MAX_CHARACTERS:,}.")
        return value

    def multiply(self, left: Any, right: Any) -> Any:
        for text, n in ((left, right), (right, left)):
            if isinstance(text, (str, list, tuple)) and isinstance(n, int):
                self.check_size(len(text) * n)
        return left * right

    def power(self, left: Any, right: Any) -> Any:
        self.check_size(abs(left) + 1)
        self.check_size(right * 1024)
        return left**right

    def check_format(self, text: Any) -> Any:
        """A format string may contain any width."""
        for digits in _DIGITS.findall(text) if isinstance(text, str) else ():
            self.check_size(int(digits[:12]))
        return text

    # ---------------------------------------------------------------------------------------- texts

    def read(self, value: Any) -> Any:
        """The whole value is read."""
        if isinstance(value, Iterator):
            value = list(value)
        self.tainted_read |= _is_tainted(value)
        return value

    def read_if_text(self, value: Any) -> Any:
        """The value's truth, length or attributes are read: of a text that depends on its
        characters, of a list or dict it does not depend on the texts inside."""
        self.tainted_read |= isinstance(value, str) and MARK in value
        return value

    def read_container(self, value: Any) -> Any:
        """The value is searched: a text or list is read, a dict only by its keys."""
        return value if isinstance(value, Mapping) else self.read(value)

    def output(self, value: Any) -> Any:
        """The value is written to the output: a text as it is, a list as its Python repr."""
        if not isinstance(value, str):
            value = self.read(value)
        return value

    def output_items(self, items: Any) -> Any:
        """The items are written to the output one after the other."""
        self.read_if_text(items)
        return items if isinstance(items, str) else [self.output(item) for item in items]

    def call_method(self, value: Any, name: str, arguments: bool) -> Any:
        """A method of the value is called; `arguments`: with arguments."""
        if arguments or name not in _STRIP_METHODS:
            self.read_if_text(value)
        return value

    def call_macro(self, callee: Any) -> Any:
        """The callee gets texts, and is known not to read them if it is a macro or a namespace."""
        self.tainted_read |= not (
            isinstance(callee, Macro)
            or (isinstance(callee, type) and issubclass(callee, Namespace))
        )
        return self.charge_call(callee)

    def read_attribute(self, items: Any, name: str) -> Any:
        """One attribute of each item is read."""
        items = items if isinstance(items, str) else list(items)
        for item in items:
            self.tainted_read |= _is_tainted(item.get(name) if isinstance(item, Mapping) else item)
        return items


def _is_tainted(value: Any) -> bool:
    if isinstance(value, str):
        return MARK in value
    if isinstance(value, Mapping):
        return any(_is_tainted(k) or _is_tainted(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return any(map(_is_tainted, value))
    return isinstance(value, Iterator)


def _monitored(method: str, *arguments: Any) -> nodes.Call:
    """A call of a method of the rendering's `_Monitor`."""
    return nodes.Call(
        nodes.Getattr(nodes.Name(_NAME, "load"), method, "load"),
        [a if isinstance(a, nodes.Node) else nodes.Const(a) for a in arguments],
        *([], None, None),
    )


class _EnforceLimits(NodeTransformer):
    """Charges loops, calls and strings."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _monitored("charge_loop", node.iter)
        return node

    def _limit_arguments(self, node: Any) -> None:
        node.args = [_monitored("check_size", a) for a in node.args]
        for keyword in node.kwargs:
            keyword.value = _monitored("check_size", keyword.value)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        self.generic_visit(node)
        self._limit_arguments(node)
        if isinstance(node.node, nodes.Getattr) and node.node.attr in ("format", "format_map"):
            node.node.node = _monitored("check_format", node.node.node)
        if not isinstance(node.node, nodes.ExtensionAttribute):
            node.node = _monitored("charge_call", node.node)
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        self.generic_visit(node)
        self._limit_arguments(node)
        if node.node is not None:
            node.node = _monitored(
                "check_format" if node.name == "format" else "check_size", node.node
            )
        return node

    def visit_Mul(self, node: nodes.Mul) -> nodes.Node:
        self.generic_visit(node)
        return _monitored("check_size", _monitored("multiply", node.left, node.right))

    def visit_Pow(self, node: nodes.Pow) -> nodes.Node:
        self.generic_visit(node)
        return _monitored("power", node.left, node.right)

    def visit_Mod(self, node: nodes.Mod) -> nodes.Node:
        self.generic_visit(node)
        node.left = _monitored("check_format", node.left)
        return _monitored("check_size", node)

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [
            x if isinstance(x, nodes.TemplateData) else _monitored("check_size", x)
            for x in node.nodes
        ]
        return node

    def _limit_result(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _monitored("check_size", node)

    visit_Concat = visit_Add = _limit_result


class _TrackReads(NodeTransformer):
    """Passes every value that an expression may read to a `_Monitor`.

    unsupported: whether the template has a node that this class does not handle.
    """

    def __init__(self) -> None:
        self.unsupported = False
        self._macros: set[str] = set()

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        self.unsupported |= not isinstance(node, _SUPPORTED_NODES)
        return super().visit(node, *args, **kwargs)

    def visit_Template(self, node: nodes.Template) -> nodes.Node:
        self._macros = {m.name for m in node.find_all(nodes.Macro)} | {"namespace", "caller"}
        return self.generic_visit(node)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.unsupported |= node.recursive
        self.generic_visit(node)
        node.iter = _monitored("charge_loop", _monitored("read_if_text", node.iter))
        if node.test is not None:
            node.test = _monitored("read_if_text", node.test)
        return node

    def _condition(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        node.test = _monitored("read_if_text", node.test)
        return node

    visit_If = visit_CondExpr = _condition

    def _left_condition(self, node: Any) -> nodes.Node:
        """`a or b`: the truth of a is read; the value is one of the two."""
        self.generic_visit(node)
        node.left = _monitored("read_if_text", node.left)
        return node

    visit_And = visit_Or = _left_condition

    def visit_Not(self, node: nodes.Not) -> nodes.Node:
        self.generic_visit(node)
        node.node = _monitored("read_if_text", node.node)
        return node

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:
        self.unsupported |= node.filter is not None
        return self.generic_visit(node)

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [
            x if isinstance(x, nodes.TemplateData) else _monitored("output", x) for x in node.nodes
        ]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_monitored("output", x) for x in node.nodes]
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _monitored("read", node.expr)
        for operand in node.ops:
            operand.expr = _monitored(
                "read_container" if operand.op in ("in", "notin") else "read", operand.expr
            )
        return node

    def _operands(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        node.left, node.right = _monitored("read", node.left), _monitored("read", node.right)
        return node

    visit_Mul = visit_Mod = visit_Sub = visit_Div = visit_FloorDiv = visit_Pow = _operands

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        node.key = _monitored("read", node.key)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        node.node = _monitored("read_if_text", node.node)
        if not isinstance(node.arg, nodes.Slice):
            node.arg = _monitored("read", node.arg)
        return node

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:
        self.generic_visit(node)
        node.node = _monitored("read_if_text", node.node)
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        callee = node.node
        passes_through = isinstance(callee, nodes.Name) and callee.name in self._macros
        plain = not (node.args or node.kwargs or node.dyn_args or node.dyn_kwargs)
        if isinstance(callee, nodes.Getattr):
            callee.node = _monitored("call_method", self.visit(callee.node), callee.attr, not plain)
        else:
            node.node = self.visit(callee)
        node.args = [self.visit(a) for a in node.args]
        node.kwargs = [self.visit(a) for a in node.kwargs]
        self.unsupported |= node.dyn_args is not None or node.dyn_kwargs is not None
        if not passes_through:
            node.args = [_monitored("read", a) for a in node.args]
            for keyword in node.kwargs:
                keyword.value = _monitored("read", keyword.value)
        if not isinstance(callee, nodes.ExtensionAttribute):
            node.node = _monitored("call_macro" if passes_through else "charge_call", node.node)
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:
        self.generic_visit(node)
        if node.name not in _TYPE_TESTS:
            node.node = _monitored("read", node.node)
            node.args = [_monitored("read", a) for a in node.args]
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        name = node.name
        self.unsupported |= (
            node.node is None or node.dyn_args is not None or node.dyn_kwargs is not None
        )
        self.generic_visit(node)
        plain = not (node.args or node.kwargs)
        first = node.args[0] if node.args else None
        if node.node is None:
            return node
        if name in ("trim", "string", "safe") and plain:
            node.node = _monitored("output", node.node)
        elif name in _STRUCTURE_FILTERS and plain:
            node.node = _monitored("read_if_text", node.node)
        elif name == "join" and not node.kwargs and len(node.args) <= 1:
            node.node = _monitored("output_items", node.node)
        elif name == "map" and not node.args and [k.key for k in node.kwargs] == ["attribute"]:
            node.node = _monitored("read_if_text", node.node)
        elif name in ("default", "d") and not node.kwargs and len(node.args) == 1:
            pass  # one of the two, depending only on whether the first is defined
        elif (
            name in _ATTRIBUTE_FILTERS
            and isinstance(first, nodes.Const)
            and "." not in str(first.value)
        ):
            node.node = _monitored("read_attribute", node.node, first.value)
            node.args = [first, *(_monitored("read", a) for a in node.args[1:])]
        else:
            node.node = _monitored("read", node.node)
            node.args = [_monitored("read", a) for a in node.args]
            for keyword in node.kwargs:
                keyword.value = _monitored("read", keyword.value)
        return node
