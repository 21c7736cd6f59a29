"""A metered Jinja sandbox for chat templates, which come with model files and are not to be trusted.

Jinja's own sandbox keeps a template from reaching Python. It does not keep it from running or growing for
ever, so every way to spend is metered: loop iterations, calls, and each text or list an expression reads or
makes. What bounds a run-away loop or a doubling string is that budget (a few seconds and some dozen MB at
worst for a short conversation). Filters and methods whose result can dwarf their arguments are left out, or
charged before they run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized, ValuesView
from typing import Any, cast

from jinja2 import filters, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

# In characters copied, which are the budget's unit; generous, so that the budget bounds seconds.
_CHARGE_PER_STEP = 256  # an iteration or a call
_CHARGE_PER_ITEM = 16  # a place in a list
_FILTERS = """
    abs attr capitalize count d default dictsort first float int items last length list lower map max min
    reject rejectattr reverse round safe select selectattr sort string title trim unique upper
""".split()  # noqa: SIM905
_UNMETERED_METHODS = {"center", "expandtabs", "format", "format_map", "ljust", "rjust", "translate", "zfill"}
_METERED_OPERATORS = frozenset({"+", "*", "**", "%"})
_LARGEST_INTEGER = 1 << 63


class Meter:
    """Counts one rendering's spending, about one unit a character."""

    def __init__(self, budget: int) -> None:
        self._left = budget

    def charge(self, units: int) -> None:
        """Spend. Raises `SecurityError` when the budget is gone."""
        self._left -= units
        if self._left < 0:
            raise SecurityError("the template takes too much time or memory")

    def charge_for(self, value: Any) -> None:
        """Spend what reading or copying a value costs, without what it contains."""
        if isinstance(value, str):
            self.charge(1 + len(value))
        elif isinstance(value, list | tuple | dict):
            self.charge(1 + len(value) * _CHARGE_PER_ITEM)

    def charge_whole(self, value: Any) -> None:
        """Spend what a value costs with all it contains, shared parts again and again, as printing it would."""
        self.charge_for(value)
        if isinstance(value, dict):
            value = value.values()
        if isinstance(value, list | tuple | ValuesView):
            for item in value:
                self.charge_whole(item)


class _OpaqueNamespace(Namespace):
    """Jinja's `namespace`, but printing one does not print what it holds: that could be itself, or doubled."""

    def __repr__(self) -> str:
        return "namespace"


class _Metering(NodeTransformer):
    """Rewrites a template so that loops, output, and what reads or makes texts and lists are metered."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "metered_items")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "metered")

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        # A filter without a value belongs to a `{% filter %}` block: its output is metered as it is written.
        if node.node is None:
            return node
        node.node = _filtered(node.node, "metered")
        return _filtered(node, "metered")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _filtered(node.expr, "metered")
        for operand in node.ops:
            operand.expr = _filtered(operand.expr, "metered")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "metered") if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "metered_whole")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "metered_whole")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "metered_whole") if node.ctx == "load" else node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:  # noqa: N802
        return nodes.Const(node.data, lineno=node.lineno)  # constants pass `finalize`, template data does not


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(cast("nodes.Expr", node), name, [], [], None, None, lineno=node.lineno)


class _GenerationBlock(Extension):
    """`{% generation %}`, which marks the model's own words for training. Here it is only its content."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own annotation

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The block's statements in its place."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class MeteredEnvironment(ImmutableSandboxedEnvironment):
    """Chat templates' dialect (white space, loop controls, generation blocks), all that can grow metered.

    `meter` is the rendering under way; set a fresh one before each, one rendering at a time. `recognized` gives
    people's text its methods back after a call has returned it as plain `str`.
    """

    intercepted_binops = _METERED_OPERATORS

    def __init__(self, compile_budget: int, recognized: Callable[[str], str]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[LoopControlExtension, _GenerationBlock],
            finalize=_metered,
            autoescape=False,
        )
        self.meter = Meter(compile_budget)
        self._recognized = recognized
        own: dict[str, Callable[..., Any]] = {
            "indent": _indent,
            "join": _join,
            "replace": _replace,
        }
        allowed = {name: self.filters[name] for name in _FILTERS}
        metering = {"metered": _metered, "metered_items": _metered_items, "metered_whole": _metered_whole}
        self.filters = {**allowed, **own, **metering}
        self.tests = {**self.tests, "in": _is_in}
        self.globals = {"range": self.globals["range"], "dict": dict, "namespace": _OpaqueNamespace}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template: nodes.Template = _Metering().visit(super()._parse(source, name, filename))
        return template

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """None: Jinja's safe `format` is no exception to `is_safe_attribute`."""
        return None

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Also refuses the text methods that make any size from nothing."""
        if isinstance(obj, str) and attr in _UNMETERED_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Charge a call, and before it what `replace` and `join` are about to make."""
        receiver, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(receiver, str) and name == "join" and args:
            args = (_charged_items(__self.meter, receiver, args[0]), *args[1:])
        __self.meter.charge(_CHARGE_PER_STEP)
        __self.meter.charge_for(receiver)
        if isinstance(receiver, str) and name == "replace" and len(args) > 1:
            __self.meter.charge(_replaced_size(receiver, args[0], args[1]))
        result = super().call(__context, __obj, *args, **kwargs)
        __self.meter.charge_whole(result)
        return __self._recognized(result) if isinstance(result, str) else result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Charge what an operator makes before it makes it."""
        if operator in ("**", "%") and not _is_small_number(left, right):
            raise SecurityError(f"{operator} is for small numbers only")
        if operator == "**" and abs(right) > 63:
            raise SecurityError("a power is at most 63")
        if operator == "*" and not _is_small_number(left, right):
            factor, repeated = (left, right) if isinstance(left, int) else (right, left)
            self.meter.charge(_size(repeated) * _CHARGE_PER_ITEM * max(1, factor))
        if operator == "+":
            self.meter.charge_for(left)
            self.meter.charge_for(right)
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and abs(result) > _LARGEST_INTEGER:
            raise SecurityError("a number is too large")
        if isinstance(result, list | tuple):
            self.meter.charge_whole(result)
        return result


def _is_small_number(*values: Any) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _size(value: Any) -> int:
    return len(value) if isinstance(value, Sized) and isinstance(value, str | list | tuple | dict) else 0


def _meter_of(context: Context) -> Meter:
    return cast("MeteredEnvironment", context.environment).meter


@pass_context
def _metered(context: Context, value: Any) -> Any:
    """Charge a value that an expression reads or makes, or that is being written out."""
    _meter_of(context).charge_for(value)
    return value


@pass_context
def _metered_whole(context: Context, value: Any) -> Any:
    """Charge a list or dict with all that it will hold, so that none can hold more than the budget allows."""
    _meter_of(context).charge_whole(value)
    return value


@pass_context
def _metered_items(context: Context, items: Iterable[Any]) -> Iterable[Any]:
    """Charge all iterations of a loop before the first, so that `loop.last` and `loop.length` need no
    look-ahead."""
    meter = _meter_of(context)
    known = items if isinstance(items, Sized) else list(_each_charged(meter, items))
    meter.charge(len(known) * _CHARGE_PER_STEP)
    return known


def _each_charged(meter: Meter, items: Iterable[Any]) -> Iterable[Any]:
    for item in items:
        meter.charge(1)
        yield item


def _charged_items(meter: Meter, separator: str, items: Iterable[Any]) -> list[Any]:
    listed = list(_each_charged(meter, items))
    meter.charge(len(separator) * len(listed) + sum(map(_size, listed)))
    return listed


def _replaced_size(text: str, old: Any, new: Any) -> int:
    return len(text) + text.count(str(old)) * len(str(new))


@pass_context
def _is_in(context: Context, value: Any, container: Any) -> bool:
    _meter_of(context).charge_for(container)
    return value in container


@pass_context
def _join(context: Context, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    items = _charged_items(_meter_of(context), d, value)
    return filters.sync_do_join(context.eval_ctx, items, d, attribute)


@pass_context
def _replace(context: Context, text: str, old: str, new: str, count: int | None = None) -> str:
    _meter_of(context).charge(_replaced_size(text, old, new))
    return text.replace(old, new, -1 if count is None else count)


@pass_context
def _indent(context: Context, text: str, width: int = 4, first: bool = False, blank: bool = False) -> str:
    _meter_of(context).charge((text.count("\n") + 1) * width)
    return filters.do_indent(text, width, first, blank)
