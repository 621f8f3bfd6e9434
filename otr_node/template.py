"""A chat template, rendered from its text and the messages alone.

Templates of checkpoints are programs. Here one runs in a frozen environment of its own, with the
options that transformers gives it, and without what would make it say something else tomorrow or
on another machine: no clock, no random numbers, no addresses of objects, no files. What it may call
is listed; what it makes and how long it runs is charged to a budget.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError, Undefined, meta, nodes, pass_context
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, _PassArg

from otr_core.encoding import shallow_stack
from otr_core.errors import ModelError, one_line

_MOST_SOURCE = 2**17  # characters; templates of large models have some 20,000
_BUDGET, _PER_CHARACTER, _STEP = 2**22, 64, 64  # characters and items made or looked at; more with a longer prompt
_LARGEST = 2**53  # of integers computed
_FILTERS = (
    *("abs", "batch", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "groupby"),
    *("indent", "int", "items", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr"),
    *("reverse", "round", "safe", "select", "selectattr", "slice", "sort", "string", "sum", "title", "trim", "unique"),
    *("upper", "wordcount"),
)
_METHODS = {
    *("capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdigit", "isspace", "islower"),
    *("isupper", "join", "lower", "lstrip", "removeprefix", "removesuffix", "replace", "rfind", "rsplit", "rstrip"),
    *("split", "splitlines", "startswith", "strip", "title", "upper"),
    *("get", "items", "keys", "values", "cycle", "changed"),
}
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_TALLY = " tally"  # names with a space: nothing that a template says can reach or hide them


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: the Jinja text. tokens: special tokens by the names that templates know
            (``bos_token`` and so on).

    Raises:
        ModelError: not a template, a giant one, or one that uses what is not in the environment.
    """

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        if len(source) > _MOST_SOURCE:
            raise ModelError(f"chat template: found {len(source)} characters, expected at most {_MOST_SOURCE}")
        environment = _Frozen()
        try:
            with shallow_stack():
                tree = environment.parse(source)
                self._asks_the_time = "strftime_now" in meta.find_undeclared_variables(tree)
                self._template = environment.from_string(_charge(tree))
        except Exception as error:  # besides its own errors the parser lets Python's through
            raise ModelError(
                f"chat template: {one_line(error, 200)}, expected one that this environment runs"
            ) from error
        self._tokens = dict(tokens)

    def render(self, prompt: str | Sequence[Mapping[str, str]], *, date: datetime.date | None = None) -> str:
        """The text that the model reads: the prompt, then the answer's beginning.

        Args:
            prompt: the one user message, or all messages of a conversation, each with its ``role``
                and ``content``.
            date: what a template that asks for the time is told; without one it is told nothing.

        Raises:
            ModelError: the template fails, needs a date, writes something that is not text, or
                exceeds its budget.
        """
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(m) for m in prompt]
        tally = _Tally(_BUDGET + _PER_CHARACTER * sum(len(message["content"]) for message in messages))
        given: dict[str, Any] = {
            **self._tokens,
            "messages": messages,
            **{"tools": None, "documents": None, "add_generation_prompt": True, _TALLY: tally},
        }
        if date is not None:
            given["strftime_now"] = _Named("strftime_now", functools.partial(_written_date, date))
        try:
            with shallow_stack():
                return "".join(self._template.generate(given))
        except Exception as error:  # a template's own mistakes are Python's errors of any class
            if date is None and self._asks_the_time and "strftime_now" in str(error):
                raise ModelError(
                    "chat template: asks for today's date (strftime_now) and has no other way; an answer could not be "
                    "replayed tomorrow; give the date that it shall be told, as the argument date"
                ) from error
            raise ModelError(f"chat template: {one_line(error, 200)}") from error


class _Tally:
    """What one rendering may still make."""

    def __init__(self, left: int) -> None:
        self._left = left

    def charge(self, value: Any) -> Any:
        """``value``, after its characters and items are charged, those of what it holds included."""
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, int) and abs(item) > _LARGEST:
                raise TemplateError(f"an integer beyond {_LARGEST}")
            self.spend(1 + (len(item) if isinstance(item, str | bytes | list | tuple | dict | range) else 0))
            if isinstance(item, dict):
                waiting += [*item.keys(), *item.values()]
            elif isinstance(item, list | tuple):
                waiting += item
            elif isinstance(item, Namespace):
                waiting.append(item._Namespace__attrs)
        return value

    def spend(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise TemplateError("works or writes more than a template for one message may")


class _Named:
    """Something to call that shows its name, where Python would show an address."""

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self._name, self._call = name, call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self._name}>"


class _Stream:
    """What a lazy filter gives, once through; shows no address either."""

    def __init__(self, items: Iterator[Any], tally: _Tally) -> None:
        self._items, self._tally = items, tally

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self._tally.spend(_STEP)
            yield item

    def __repr__(self) -> str:
        return "<stream>"


class _Frozen(ImmutableSandboxedEnvironment):
    """The environment: listed filters and methods, everything charged."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, loopcontrols],
            finalize=_written,
            optimized=False,  # nothing is computed before there is a tally
            cache_size=0,
        )
        own: dict[str, Any] = {"tojson": _tojson, "replace": _replace, "join": _join}
        filters = {name: self.filters[name] for name in _FILTERS} | own
        self.filters = {name: _charged(call) for name, call in filters.items()}
        self.filters |= {" step": _step, " weigh": _weigh, " concat": _concat}
        self.tests["sameas"] = lambda value, other: type(value) is type(other) and value == other
        self.globals = {"range": _Named("range", _range), "dict": _Named("dict", dict), "namespace": Namespace}
        self.globals["raise_exception"] = _Named("raise_exception", _raise)

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self._shown(obj, attribute, super().getattr(obj, attribute))

    def getitem(self, obj: Any, argument: Any) -> Any:
        return self._shown(obj, argument, super().getitem(obj, argument))

    def _shown(self, obj: Any, name: Any, found: Any) -> Any:
        if not callable(found) or isinstance(found, Undefined | Macro | LoopContext | _Named):
            return found
        if name not in _METHODS:
            raise TemplateError(f"{type(obj).__name__}.{name} is not to be used in a template")
        if isinstance(obj, str) and name == "replace":
            found = functools.partial(_replace, obj)
        elif isinstance(obj, str) and name == "join":
            found = functools.partial(_join, between=obj)
        return _Named(name, found)

    def call(self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        tally = __context[_TALLY]
        tally.spend(_STEP)
        tally.charge((*args, *kwargs.values()))
        return tally.charge(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or (operator == "%" and isinstance(left, str | bytes)):
            raise TemplateError(f"the operator {operator} is not to be used in a template")
        if operator == "*":
            sizes = [len(side) if hasattr(side, "__len__") else 0 for side in (left, right)]
            times = [side if isinstance(side, int) else 0 for side in (right, left)]
            context[_TALLY].spend(max(0, *(size * time for size, time in zip(sizes, times, strict=True))))
        return context[_TALLY].charge(super().call_binop(context, operator, left, right))


def _charge(tree: nodes.Template) -> nodes.Template:
    """Put the tally where a template's code repeats, joins or compares."""
    found = list(tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock, nodes.Concat, nodes.Compare)))
    for node in found:
        line: dict[str, Any] = {"lineno": node.lineno}
        if isinstance(node, nodes.For):
            node.iter = _filtered(node.iter, " weigh", line)
        if isinstance(node, nodes.For | nodes.Macro | nodes.CallBlock):
            written = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
            step = _filtered(nodes.Const(written + _STEP, **line), " step", line)
            node.body.insert(0, nodes.ExprStmt(step, **line))
        elif isinstance(node, nodes.Concat):
            node.nodes = [_filtered(nodes.List(node.nodes, **line), " concat", line)]
        elif isinstance(node, nodes.Compare):
            sides: list[nodes.Compare | nodes.Operand] = [node, *node.ops]
            for side in sides:
                side.expr = _filtered(side.expr, " weigh", line)
    return tree


def _filtered(node: nodes.Node, name: str, line: dict[str, Any]) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, **line)


class _Generation(Extension):
    """The blocks by which training marks what an assistant says: here only their content."""

    tags = {"generation"}  # noqa: RUF012 - as the base class declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _charged(call: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that charges what it is given and what it makes."""
    wanted = _PassArg.from_obj(call)

    @pass_context
    def run(context: Context, *args: Any, **kwargs: Any) -> Any:
        tally = context[_TALLY]
        tally.charge((*args, *kwargs.values()))
        for number in (*args[1:], *kwargs.values()):
            if isinstance(number, int):
                tally.spend(abs(number))  # widths, counts: what is made of them is at most so much
        first: dict[Any, tuple[Any, ...]] = {
            _PassArg.context: (context,),
            _PassArg.eval_context: (context.eval_ctx,),
            _PassArg.environment: (context.environment,),
        }
        result = call(*first.get(wanted, ()), *args, **kwargs)
        return _Stream(result, tally) if isinstance(result, Iterator) else tally.charge(result)

    return run


@pass_context
def _written(context: Context, value: Any) -> Any:
    if not isinstance(value, str | int | float | Undefined | None):
        raise TemplateError(f"writes a {type(value).__name__}, expected text or a number")
    return context[_TALLY].charge(value)


@pass_context
def _step(context: Context, amount: int) -> None:
    context[_TALLY].spend(amount)


@pass_context
def _weigh(context: Context, value: Any) -> Any:
    return context[_TALLY].charge(value)


@pass_context
def _concat(context: Context, values: list[Any]) -> str:
    context[_TALLY].charge(values)
    return "".join(map(str, values))


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    # as transformers defines it: other than Jinja's own, without escapes for HTML
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _replace(value: Any, old: str, new: str, count: int | None = None) -> str:
    text = str(value)
    if len(text) + text.count(old) * len(new) > _BUDGET + _PER_CHARACTER * len(text):
        raise TemplateError("replaces into more text than a template for one message may")
    return text.replace(old, new, -1 if count is None else count)


def _join(items: Iterable[Any], between: Any = "", attribute: Any = None) -> str:
    if attribute is not None:
        raise TemplateError("join with an attribute is not to be used in a template")
    parts, most = [str(item) for item in items], _BUDGET
    if sum(map(len, parts)) + len(str(between)) * len(parts) > most * _PER_CHARACTER:
        raise TemplateError("joins into more text than a template for one message may")
    return str(between).join(parts)


def _range(*bounds: int) -> range:
    found = range(*bounds)
    if len(found) > _BUDGET // _STEP:
        raise TemplateError(f"a range of {len(found)} numbers, expected at most {_BUDGET // _STEP}")
    return found


def _raise(message: Any) -> None:
    raise TemplateError(f"refuses the message ({message})")


def _written_date(date: datetime.date, form: str) -> str:
    """``date`` by those directives of strftime that ask for nothing but the date, in English."""
    month, day = _MONTHS[date.month - 1], _DAYS[date.weekday()]
    parts = {
        **{"d": f"{date.day:02}", "-d": str(date.day), "e": f"{date.day:2}", "m": f"{date.month:02}"},
        **{"-m": str(date.month), "Y": f"{date.year:04}", "y": f"{date.year % 100:02}", "%": "%"},
        **{"B": month, "b": month[:3], "A": day, "a": day[:3], "F": date.isoformat()},
    }
    text, rest = "", form
    while rest:
        before, mark, rest = rest.partition("%")
        text += before
        if mark:
            name = rest[:2] if rest[:1] == "-" else rest[:1]
            if name not in parts:
                raise TemplateError(f"asks for %{name} of the date, expected one of %{', %'.join(parts)}")
            text, rest = text + parts[name], rest[len(name) :]
    return text
