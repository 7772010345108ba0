"""Filters on the list of runs: words, and expressions such as `method == "arnas" and robust > 0.4`.

The library simpleeval parses and evaluates expressions. An expression may contain comparisons, the operators `and`, `or`, `not`
and `in`, arithmetic, numbers, texts, lists and the names in `NAMES`. Function calls, attributes and subscripts are refused.
"""

from __future__ import annotations

import ast
import math
import operator
from difflib import get_close_matches
from typing import Any

import pandas as pd
from simpleeval import EvalWithCompoundTypes, FeatureNotAvailable, InvalidExpression, safe_add, safe_mult

from engine.errors import ConfigError
from engine.run.values import printable

# Name in an expression -> (column of `RunLog.runs`, meaning).
NAMES: dict[str, tuple[str, str]] = {
    "id": ("id", "id of the run"), "kind": ("kind", '"search", "retrain" or "attack"'),
    "method": ("method", 'search method, for example "arnas", or hand-made network'), "title": ("title", "name of the run"),
    "preset": ("preset", '"quick", "scout", "paper" or "smoke"'), "dataset": ("dataset", 'for example "digits"'),
    "study": ("study", 'id of its study, "" if it has none'), "parent": ("parent", "id of the run that it follows"),
    "seed": ("seed", "random seed"), "status": ("status", '"queued", "running", "stopping", "stopped", "finished" or "failed"'),
    "cause": ("cause", "why it failed, stopped or waits"), "progress": ("progress", "0 to 1"),
    "natural": ("natural_accuracy", "accuracy on unchanged test images, 0 to 1; only attack runs measure it"),
    "robust": ("adversarial_accuracy", "accuracy under attack on test images, 0 to 1; only attack runs measure it"),
    "natural_guide": ("natural_accuracy", "accuracy on another split, which guided a search or retraining, 0 to 1"),
    "robust_guide": ("adversarial_accuracy", "accuracy under attack on another split, 0 to 1"),
    "chain_natural": ("chain_natural_accuracy", "natural accuracy in the newest attack on the run's chain, 0 to 1"),
    "chain_robust": ("chain_adversarial_accuracy", "robust accuracy in the newest attack on the run's chain, 0 to 1"),
    "protocol": ("protocol", "hash of the protocol of an attack"), "badge": ("badge", '"green", "amber", "red" or ""'),
    "parameters": ("parameters", "number of parameters"), "macs": ("macs", "number of multiply-accumulate operations"),
    "device": ("device", 'for example "cpu"'), "age_h": ("age_s", "hours since it was launched"),
    "duration_min": ("duration_s", "minutes that its latest attempt took"),
    "tags": ("tags", 'list of tags, as in "baseline" in tags'), "note": ("note", "text of the note"),
    "archived": ("archived", "True or False"),
}
FACTORS = {"age_h": 3600.0, "duration_min": 60.0}
EXAMPLES = ('method == "arnas" and robust > 0.4', 'status == "failed" and age_h < 24', '"baseline" in tags or parameters < 1e6')
LONGEST = 1000
_SEARCHED = ("id", "title", "preset", "dataset", "study", "tags", "note")
_OPERATORS: dict[type[ast.AST], Any] = {
    ast.Add: safe_add, ast.Sub: operator.sub, ast.Mult: safe_mult, ast.Div: operator.truediv, ast.USub: operator.neg,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Not: operator.not_, ast.In: lambda one, many: operator.contains(many, one),
    ast.NotIn: lambda one, many: not operator.contains(many, one)}
_ALLOWED = (ast.BoolOp, ast.BinOp, ast.Compare, ast.UnaryOp, ast.Constant, ast.Name, ast.List, ast.Tuple, ast.operator,
            ast.unaryop, ast.cmpop, ast.boolop, ast.expr_context, ast.Expr)


def matching_words(runs: pd.DataFrame, text: str) -> pd.Series:
    """Return a boolean per run: True if the run's texts contain every word of `text`, ignoring upper and lower case.

    The searched texts are the id, title, preset, dataset, study, tags and note.

    Args:
        runs: table of runs, from `RunLog.runs`.
        text: words, separated by spaces.
    """
    searched = pd.Series("", index=runs.index)
    for column in _SEARCHED:
        searched += " " + runs[column].fillna("").astype(str).str.lower()
    keep = pd.Series(True, index=runs.index)
    for word in printable(text).lower().split():
        keep &= searched.str.contains(word, regex=False)
    return keep


def matching(runs: pd.DataFrame, expression: str) -> pd.Series:
    """Return a boolean per run: the value of an expression. An empty expression is true for every run.

    Args:
        runs: table of runs, from `RunLog.runs`.
        expression: for example `method == "arnas" and robust > 0.4`. If a run lacks a number, every comparison of this number is
            false except `!=`.

    Raises:
        ConfigError: the expression cannot be read, uses an unknown name, or compares values that cannot be compared.
    """
    if not expression.strip():
        return pd.Series(True, index=runs.index)
    evaluator = EvalWithCompoundTypes(operators=_OPERATORS, functions={})
    parsed = _parsed(evaluator, expression)
    used = sorted({node.id for node in ast.walk(parsed) if isinstance(node, ast.Name)})
    keep = []
    for values in zip(*(_values(runs, name) for name in used), strict=True) if used else [()] * len(runs):
        evaluator.names = {**dict(zip(used, values, strict=True)), "True": True, "False": False}
        keep.append(_is_true(evaluator, expression, parsed))
    return pd.Series(keep, index=runs.index, dtype=bool)


def _parsed(evaluator: EvalWithCompoundTypes, expression: str) -> ast.AST:
    if len(expression) > LONGEST:
        raise ConfigError(f"An expression has at most {LONGEST:,} characters, got {len(expression):,}; shorten it.")
    try:
        parsed: ast.AST = evaluator.parse(expression)
    except (SyntaxError, ValueError, InvalidExpression, RecursionError, MemoryError):
        raise ConfigError(f"The filter must be a comparison such as `{EXAMPLES[0]}`, and {expression!r:.80} cannot be read; "
                          "write texts in quotes, == for equal, and join comparisons with and, or, not.") from None
    for node in ast.walk(parsed):
        if not isinstance(node, _ALLOWED) or (not isinstance(node, ast.Expr) and _is_unknown_operator(node)):
            raise ConfigError(f"The filter compares values of a run and knows no {_words_of(node)}; write for example "
                              f"`{EXAMPLES[0]}`.")
        if isinstance(node, ast.Name) and node.id not in NAMES:
            nearest = get_close_matches(node.id, NAMES, n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else f' Texts need quotes: "{node.id}".'
            raise ConfigError(f"The filter knows no name {node.id}; the names are {', '.join(NAMES)}.{hint}")
    return parsed


def _is_unknown_operator(node: ast.AST) -> bool:
    return isinstance(node, (ast.operator, ast.unaryop, ast.cmpop)) and type(node) not in _OPERATORS


def _words_of(node: ast.AST) -> str:
    return {ast.Call: "function calls", ast.Attribute: "attributes", ast.Subscript: "subscripts",
            ast.Assign: "assignments (== means equal)"}.get(
        type(node), f"{type(node).__name__} expressions")


def _values(runs: pd.DataFrame, name: str) -> list[Any]:
    """Return, for each run, the value of the name `name`, a key of `NAMES`. Missing numbers are NaN."""
    column, factor = NAMES[name][0], FACTORS.get(name)
    values = runs[column]
    if name == "tags":
        return [str(one).split() for one in values]
    if name in ("natural", "robust"):
        values = values.where(runs["kind"] == "attack")
    elif name in ("natural_guide", "robust_guide"):
        values = values.where(runs["kind"] != "attack")
    return list(values / factor if factor else values)


def _is_true(evaluator: EvalWithCompoundTypes, expression: str, parsed: ast.AST) -> bool:
    try:
        value = evaluator.eval(expression, previously_parsed=parsed)
    except TypeError:
        raise ConfigError(f"The filter {expression!r:.80} compares a text with a number, or looks for something in a number; "
                          "numbers have no quotes, texts and tags have.") from None
    except (InvalidExpression, FeatureNotAvailable, ArithmeticError, ValueError, RecursionError) as problem:
        raise ConfigError(f"The filter {expression!r:.80} cannot be evaluated ({problem}); write for example "
                          f"`{EXAMPLES[0]}`.") from None
    return bool(value) and not (isinstance(value, float) and math.isnan(value))
