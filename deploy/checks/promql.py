"""Reads PromQL far enough to know which series and labels an expression asks for.

It tells selectors from functions, operators and grouping labels; it does not evaluate or type-check. promtool and a
live Prometheus do that where they are installed.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

_AGGREGATION_NAMES = "sum min max avg group stddev stdvar count count_values bottomk topk quantile"
_FUNCTION_NAMES = """
    abs absent absent_over_time acos acosh asin asinh atan atanh avg_over_time ceil changes clamp clamp_max clamp_min
    cos cosh count_over_time day_of_month day_of_week day_of_year days_in_month deg delta deriv exp floor
    histogram_quantile hour idelta increase irate label_join label_replace last_over_time ln log10 log2 max_over_time
    min_over_time minute month pi predict_linear present_over_time quantile_over_time rad rate resets round scalar sgn
    sin sinh sort sort_desc sqrt stddev_over_time stdvar_over_time sum_over_time tan tanh time timestamp vector
    year
"""
AGGREGATIONS = frozenset(_AGGREGATION_NAMES.split())
FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_GROUPING = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_OPERATORS = frozenset({"and", "or", "unless", "atan2", "bool"})
_LITERALS = frozenset({"inf", "nan"})

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
    |(?P<number>0[xX][0-9a-fA-F]+|[0-9]+(?:ms|[smhdwy])(?:[0-9]+(?:ms|[smhdwy]))*
        |(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    |(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)
    |(?P<variable>\$\{?[A-Za-z_][A-Za-z0-9_]*\}?)
    |(?P<mark>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){}\[\],@:])""",
    re.VERBOSE,
)


class PromqlError(Exception):
    """The expression cannot be read; the message shows where."""


class Matcher(NamedTuple):
    """One condition of a selector, e.g. outcome = dead_letter."""

    label: str
    operator: str
    value: str


class Selector(NamedTuple):
    """One metric that an expression asks for."""

    metric: str
    matchers: tuple[Matcher, ...]


class Expression(NamedTuple):
    """What an expression asks for: its selectors, and the labels that it groups or joins by."""

    selectors: tuple[Selector, ...]
    grouping_labels: frozenset[str]


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse(expression: str) -> Expression:
    """The selectors and grouping labels of `expression`. Grafana variables may stand where a duration may.

    Raises PromqlError for an unknown function, a selector without a metric name, or text that is no PromQL.
    """
    tokens = _tokens(expression)
    selectors: list[Selector] = []
    labels: set[str] = set()
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.text == "[":
            at = _index_of("]", tokens, at) + 1
        elif token.text == "{":
            raise PromqlError(f"a selector without a metric name at {token.at} of {expression!r}; name the metric")
        elif token.kind == "name":
            at = _read_name(tokens, at, selectors, labels)
        else:
            at += 1
    return Expression(tuple(selectors), frozenset(labels))


def _read_name(tokens: Sequence[_Token], at: int, selectors: list[Selector], labels: set[str]) -> int:
    word = tokens[at].text
    follows = tokens[at + 1].text if at + 1 < len(tokens) else ""
    if word in _GROUPING:
        return _read_labels(tokens, at + 1, labels) if follows == "(" else at + 1
    if word == "offset":
        return at + 2 + (follows == "-")
    if word in _OPERATORS or word.lower() in _LITERALS:
        return at + 1
    if follows == "(" or word in AGGREGATIONS:
        if word in FUNCTIONS or (word in AGGREGATIONS and follows in {"(", "by", "without"}):
            return at + 1
        raise PromqlError(f"{word!r} is not a function that the checks know; add it to FUNCTIONS if PromQL has it")
    if follows == "{":
        matchers, after = _read_matchers(tokens, at + 2)
        selectors.append(Selector(word, matchers))
        return after
    selectors.append(Selector(word, ()))
    return at + 1


def _read_labels(tokens: Sequence[_Token], at: int, labels: set[str]) -> int:
    end = _index_of(")", tokens, at)
    labels.update(token.text for token in tokens[at + 1 : end] if token.kind == "name")
    return end + 1


def _read_matchers(tokens: Sequence[_Token], at: int) -> tuple[tuple[Matcher, ...], int]:
    end = _index_of("}", tokens, at)
    parts = [token for token in tokens[at:end] if token.text != ","]
    if len(parts) % 3:
        raise PromqlError(f'label matchers at {tokens[at].at} are not of the form label="value"')
    found = []
    for label, operator, value in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if label.kind != "name" or operator.text not in {"=", "!=", "=~", "!~"} or value.kind != "string":
            raise PromqlError(f"{label.text}{operator.text}{value.text} is not a label matcher")
        found.append(Matcher(label.text, operator.text, value.text[1:-1]))
    return tuple(found), end + 1


def _index_of(text: str, tokens: Sequence[_Token], at: int) -> int:
    for index in range(at, len(tokens)):
        if tokens[index].text == text:
            return index
    raise PromqlError(f"no {text!r} after {tokens[at].at if at < len(tokens) else 'the end'}")


def _tokens(expression: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None or match.lastgroup is None:
            raise PromqlError(f"{expression[at : at + 10]!r} at {at} of {expression!r} is no PromQL")
        if match.lastgroup != "space":
            tokens.append(_Token(match.lastgroup, match.group(), at))
        at = match.end()
    return tokens
