"""Mutants of the part that gives the answer: planted by name, or drawn from its syntax trees."""

from __future__ import annotations

import ast
import copy
import inspect
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from types import CodeType, FunctionType, ModuleType
from typing import Any

from flows.answer import arms, compare, evaluate, grid, pretrain, sets

# Of this process's own time, so that a busy machine catches nothing; the checks take a tenth.
LIMIT_S = 60.0


def _too_long(_signal: int, _frame: object) -> None:
    raise TimeoutError(f"a mutant computes for {LIMIT_S:.0f} s")


@dataclass(frozen=True)
class Mutant:
    """One function with other code.

    Attributes:
        function: such as `_metrics` or `Training.made_by`.
        code: of the module that holds the function, mutated.
        where: its line, and what became of it.
    """

    module: ModuleType
    function: str
    code: str
    where: str

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Run with the mutant in place: whoever imported the function gets it.

        Raises:
            TimeoutError: it computes without an end.
        """
        function = _function(self.module, self.function)
        before = function.__code__
        function.__code__ = _code(
            compile(self.code, str(self.module.__file__), "exec"), self.function
        )
        handler = signal.signal(signal.SIGVTALRM, _too_long)
        signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, handler)
            function.__code__ = before


def planted(module: ModuleType, function: str, old: str, new: str) -> Mutant:
    """Return the mutant in which a text of a function, found once there, is another."""
    source = inspect.getsource(module)
    own = inspect.getsource(_function(module, function))
    assert own.count(old) == 1, f"{function} has {own.count(old)} times {old!r}"
    return Mutant(module, function, source.replace(own, own.replace(old, new)), f"{old} -> {new}")


def drawn(count: int, seed: int) -> list[Mutant]:
    """Return mutants drawn from all that the operators below make, in a fixed order."""
    everything = [
        m for module in (arms, compare, evaluate, grid, pretrain, sets) for m in _all(module)
    ]
    return Random(seed).sample(everything, count)


# ------------------------------------------------------------------ operators

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}  # fmt: skip


def _variants(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """Yield what may be done to a node, each as words and as what does it to a copy."""
    if isinstance(node, ast.Compare):
        other = _COMPARE[type(node.ops[0])]
        yield f"compares by {other.__name__}", lambda n: n.ops.__setitem__(0, other())
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        operator = _BINARY[type(node.op)]
        yield f"computes {operator.__name__}", lambda n: setattr(n, "op", operator())
    if isinstance(node, ast.BoolOp):
        junction = ast.And if isinstance(node.op, ast.Or) else ast.Or
        yield f"joins by {junction.__name__}", lambda n: setattr(n, "op", junction())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield "drops the sign", lambda n: n.__dict__.update(_plus(n))
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        value = not node.value if isinstance(node.value, bool) else node.value + 1
        yield f"is {value}", lambda n: setattr(n, "value", value)
    if isinstance(node, ast.Call) and len(node.args) > 1:
        yield "swaps its arguments", lambda n: n.args.__setitem__(slice(0, 2), n.args[1::-1])
    if isinstance(node, ast.Expr | ast.AugAssign):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_text:
            yield "is dropped", lambda n: n.__dict__.update(_nothing(n))


def _plus(node: ast.UnaryOp) -> dict[str, Any]:
    return {"op": ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not(), "operand": (
        node.operand if isinstance(node.op, ast.USub) else ast.UnaryOp(ast.Not(), node.operand)
    )}  # fmt: skip


def _nothing(node: ast.stmt) -> dict[str, Any]:
    node.__class__ = ast.Pass
    return {}


def _all(module: ModuleType) -> Iterator[Mutant]:
    source = inspect.getsource(module)
    tree = ast.parse(source)
    for name, function in _functions(tree):
        # Defaults and annotations are evaluated where a function is made, not where it runs.
        body = [node for statement in function.body for node in ast.walk(statement)]
        for index, node in enumerate(body):
            for number, (words, _) in enumerate(_variants(node)):
                other = copy.deepcopy(tree)
                (twin,) = [f for n, f in _functions(other) if n == name]
                target = [n for statement in twin.body for n in ast.walk(statement)][index]
                _, apply = list(_variants(target))[number]
                apply(target)
                ast.fix_missing_locations(other)
                text = ast.get_source_segment(source, node) or ""
                where = (
                    f"{module.__name__}.{name}:{node.lineno}: `{' '.join(text.split())}` {words}"
                )
                yield Mutant(module, name, ast.unparse(other), where)


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    yield f"{node.name}.{inner.name}", inner


def _function(module: ModuleType, name: str) -> FunctionType:
    found: Any = module
    for part in name.split("."):
        found = inspect.getattr_static(found, part)
    found = getattr(found, "fget", None) or getattr(found, "func", None) or found
    assert isinstance(found, FunctionType)
    return found


def _code(code: CodeType, name: str) -> CodeType:
    todo = [code]
    while todo:
        here = todo.pop()
        if here.co_qualname == name:
            return here
        todo += [inner for inner in here.co_consts if isinstance(inner, CodeType)]
    raise AssertionError(f"there is no {name}")
