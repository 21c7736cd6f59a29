"""A metered Jinja sandbox for chat templates, which come with model files and are not to be trusted.

Jinja's own sandbox keeps a template from reaching Python. It does not keep it from running or growing for
ever, so every way to spend is metered: loop iterations, calls, and each text or list an expression makes.
What bounds a run-away loop or a doubling string is that budget (some seconds of time and a few dozen MB at
worst for a short conversation); filters and methods whose result can dwarf their arguments are left out, or
are charged before they run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sized
from typing import Any, cast

from jinja2 import filters, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

_CHARGE_PER_STEP = 16  # an iteration or call costs about what copying this many characters does, and more
_FILTERS = """
    abs attr capitalize count d default dictsort first float int items last length list lower map max min
    reject rejectattr reverse round safe select selectattr sort string sum title trim unique upper
""".split()  # noqa: SIM905: a word list reads best as words
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


class _Metering(NodeTransformer):
    """Rewrites a template so that loops, concatenations, filters and output go by the meter."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802: Jinja names it
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "metered_items")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802: Jinja names it
        self.generic_visit(node)
        return _filtered(node, "metered")

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802: Jinja names it
        self.generic_visit(node)
        # A filter without a value belongs to a `{% filter %}` block, whose output is metered as it is
        # written.
        return node if node.node is None else _filtered(node, "metered")

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:  # noqa: N802: Jinja names it
        return nodes.Const(node.data, lineno=node.lineno)  # constants pass `finalize`, template data does not


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(cast("nodes.Expr", node), name, [], [], None, None, lineno=node.lineno)


class MeteredEnvironment(ImmutableSandboxedEnvironment):
    """Chat templates' dialect (white space, loop controls, `tojson`) with everything that can grow metered.

    `meter` is the rendering under way; set a fresh one before each, one rendering at a time.
    """

    intercepted_binops = _METERED_OPERATORS

    def __init__(self, compile_budget: int) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols"],
            finalize=_metered,
            autoescape=False,
        )
        self.meter = Meter(compile_budget)
        own: dict[str, Callable[..., Any]] = {"join": _join, "replace": _replace, "tojson": _tojson}
        allowed = {name: self.filters[name] for name in _FILTERS}
        self.filters = {**allowed, **own, "metered": _metered, "metered_items": _metered_items}
        del self.globals["lipsum"]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template: nodes.Template = _Metering().visit(super()._parse(source, name, filename))
        return template

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
        if isinstance(receiver, str) and name == "replace" and len(args) > 1:
            __self.meter.charge(_replaced_size(receiver, args[0], args[1]))
        result = super().call(__context, __obj, *args, **kwargs)
        __self.meter.charge(_size(result))
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Charge what an operator makes before it makes it."""
        if operator in ("**", "%") and not _is_small_number(left, right):
            raise SecurityError(f"{operator} is for small numbers only")
        if operator == "**" and abs(right) > 63:
            raise SecurityError("a power is at most 63")
        if operator == "*" and not _is_small_number(left, right):
            factor = left if isinstance(left, int) else right
            self.meter.charge((_size(left) + _size(right)) * max(1, factor if isinstance(factor, int) else 1))
        if operator == "+":
            self.meter.charge(_size(left) + _size(right))
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and abs(result) > _LARGEST_INTEGER:
            raise SecurityError("a number is too large")
        return result


def _is_small_number(*values: Any) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _size(value: Any) -> int:
    return len(value) if isinstance(value, Sized) and isinstance(value, str | list | tuple | dict) else 0


def _meter_of(context: Context) -> Meter:
    return cast("MeteredEnvironment", context.environment).meter


@pass_context
def _metered(context: Context, value: Any) -> Any:
    """Charge a value that an expression made or that is being written out."""
    _meter_of(context).charge(1 + _size(value))
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
def _join(context: Context, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    items = _charged_items(_meter_of(context), d, value)
    return filters.sync_do_join(context.eval_ctx, items, d, attribute)


@pass_context
def _replace(context: Context, text: str, old: str, new: str, count: int | None = None) -> str:
    _meter_of(context).charge(_replaced_size(text, old, new))
    return filters.do_replace(context.eval_ctx, text, old, new, count)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    """As chat templates define it: plain JSON, not escaped for HTML, other scripts left readable."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=None if indent is None else min(indent, 8))
