"""The language of `filter --where`: comparisons over columns, read by a parser that knows nothing else, never evaluated."""

import ast
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from mmtrain.errors import ConfigError

Kind = Literal["number", "text", "truth", "other"]
Value = int | float | str | bool

_WRITE = "write comparisons (== != < <= > >=, in, not in, is None) with and, or, not between them"
_LARGEST = 1 << 63
_COMPARE: dict[type[ast.cmpop], Callable[[pc.Expression, pc.Expression], pc.Expression]] = {
    ast.Eq: lambda left, right: left == right,
    ast.NotEq: lambda left, right: left != right,
    ast.Lt: lambda left, right: left < right,
    ast.LtE: lambda left, right: left <= right,
    ast.Gt: lambda left, right: left > right,
    ast.GtE: lambda left, right: left >= right,
}
_ARROW: dict[Kind, pa.DataType] = {"text": pa.string(), "truth": pa.bool_()}


@dataclass(frozen=True)
class Column:
    """A column that may be asked for; `classes`: names that its numbers 0, 1, ... have."""

    kind: Kind
    whole: bool = False
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Condition:
    """A compiled expression and the columns that it reads."""

    expression: pc.Expression
    columns: tuple[str, ...]


@dataclass(frozen=True)
class _Operand:
    """One side of a comparison: a column or a value."""

    node: ast.expr
    name: str = ""
    column: Column | None = None
    value: Value = 0

    @property
    def kind(self) -> Kind:
        if self.column is not None:
            return self.column.kind
        return "truth" if isinstance(self.value, bool) else "text" if isinstance(self.value, str) else "number"

    @property
    def whole(self) -> bool:
        return self.column.whole if self.column is not None else isinstance(self.value, int)


def compile_where(text: str, columns: Mapping[str, Column]) -> Condition:
    """A condition over one sample's columns; where a column that it compares is empty, it is neither true nor false.

    Errors: ConfigError with the position (from 1) of what is not understood.
    """
    compiler = _Compiler(text, columns)
    try:
        return Condition(compiler.condition(compiler.parse()), tuple(compiler.read))
    except RecursionError:
        raise ConfigError(
            f"--where: the expression of {len(text)} characters is nested too deeply; write it flatter"
        ) from None


class _Compiler:
    def __init__(self, text: str, columns: Mapping[str, Column]) -> None:
        self.text = " ".join(text.splitlines())
        self.columns = columns
        self.read: dict[str, None] = {}

    def parse(self) -> ast.expr:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a backslash in a text
                return ast.parse(self.text.strip(), mode="eval").body
        except SyntaxError as error:
            place = error.offset - 1 if error.offset else len(self.text.strip())  # 0: it ends too early
            self._refuse(place, f"not an expression ({error.msg}); {_WRITE}")
        except (ValueError, MemoryError) as error:
            self._refuse(0, f"not an expression ({error or 'too deeply nested'}); {_WRITE}")

    def condition(self, node: ast.expr) -> pc.Expression:
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(value) for value in node.values]
            whole = parts[0]
            for part in parts[1:]:
                whole = whole & part if isinstance(node.op, ast.And) else whole | part
            return whole
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.condition(node.operand)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            links = [self._compare(left, op, right) for left, op, right in zip(sides, node.ops, sides[1:], strict=False)]
            whole = links[0]
            for link in links[1:]:
                whole = whole & link
            return whole
        return self._fail(node, f"'{self._source(node)}' is no comparison; {_WRITE}")

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> pc.Expression:
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                self._fail(right, "'is' and 'is not' are followed by None (the cell is empty)")
            column = self._operand(left)
            if column.column is None:
                self._fail(left, "a column was expected before 'is'")
            missing = pc.field(column.name).is_null()
            return missing if isinstance(op, ast.Is) else ~missing
        if isinstance(op, ast.In | ast.NotIn):
            return self._membership(left, right, negated=isinstance(op, ast.NotIn))
        one, two = self._operand(left), self._operand(right)
        if one.column is None and two.column is None:
            self._fail(left, f"'{self._source(left)}' and '{self._source(right)}' are both values; compare a column")
        if type(op) in (ast.Eq, ast.NotEq):
            one, two = self._by_class(one, two), self._by_class(two, one)
        kind = self._common_kind([one, two])
        if kind == "truth" and type(op) not in (ast.Eq, ast.NotEq):
            self._fail(left, "True and False have no order; write == or !=")
        arrow = self._type([one, two])
        return _COMPARE[type(op)](self._expression(one, arrow), self._expression(two, arrow))

    def _membership(self, left: ast.expr, right: ast.expr, *, negated: bool) -> pc.Expression:
        column = self._operand(left)
        if column.column is None:
            self._fail(left, "a column was expected before 'in'")
        if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
            self._fail(right, "a list of values was expected behind 'in', such as ('a', 'b')")
        values = [self._operand(item) for item in right.elts]
        for item in values:
            if item.column is not None:
                self._fail(item.node, "a value was expected in the list")
        values = [self._by_class(item, column) for item in values]
        self._common_kind([column, *values])
        arrow = self._type([column, *values])
        field = self._expression(column, arrow)
        within = field.isin(pa.array([item.value for item in values], arrow))
        found = pc.if_else(field.is_valid(), within, pc.scalar(pa.scalar(None, pa.bool_())))
        return ~found if negated else found

    def _operand(self, node: ast.expr) -> _Operand:
        name = self._column_name(node)
        if name is not None:
            if name not in self.columns:
                self._fail(node, f"unknown column '{name}'; the columns are {', '.join(self.columns)}")
            self.read[name] = None
            return _Operand(node, name=name, column=self.columns[name])
        sign = 1
        inner = node
        while isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.USub | ast.UAdd):
            sign, inner = (-sign if isinstance(inner.op, ast.USub) else sign), inner.operand
        value = inner.value if isinstance(inner, ast.Constant) else None
        if isinstance(value, str | bool) and inner is node:
            return _Operand(node, value=value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._fail(node, f"'{self._source(node)}' is neither a column, a number nor a text in quotes; {_WRITE}")
        if not math.isfinite(value) if isinstance(value, float) else value >= _LARGEST:
            self._fail(node, f"'{self._source(node)}' is too large")
        return _Operand(node, value=sign * value)

    def _column_name(self, node: ast.expr) -> str | None:
        """Of `audio.rows`, or of column("audio-2.rows") where a name is not a word."""
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Attribute):
            before = self._column_name(node.value)
            return None if before is None else f"{before}.{node.attr}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "column":
            argument = node.args[0] if len(node.args) == 1 and not node.keywords else None
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                return argument.value
            self._fail(node, 'write column("name")')
        return None

    def _by_class(self, operand: _Operand, other: _Operand) -> _Operand:
        """The number of a class that is written by its name."""
        if other.column is None or not other.column.classes or not isinstance(operand.value, str) or operand.column:
            return operand
        classes = other.column.classes
        if operand.value not in classes:
            self._fail(operand.node, f"'{operand.value}' is no class of '{other.name}'; it has {', '.join(classes)}")
        return _Operand(operand.node, value=classes.index(operand.value))

    def _common_kind(self, operands: Sequence[_Operand]) -> Kind:
        first = operands[0]
        for operand in operands:
            if operand.kind == "other":
                self._fail(operand.node, f"'{operand.name}' holds neither numbers nor texts; only `is None` reads it")
            if operand.kind != first.kind:
                here, there = self._source(first.node), self._source(operand.node)
                self._fail(operand.node, f"{here} is a {first.kind}, {there} a {operand.kind}; compare like with like")
        return first.kind

    def _type(self, operands: Sequence[_Operand]) -> pa.DataType:
        numbers = pa.int64() if all(operand.whole for operand in operands) else pa.float64()
        return _ARROW.get(operands[0].kind, numbers)

    def _expression(self, operand: _Operand, arrow: pa.DataType) -> pc.Expression:
        if operand.column is None:
            return pc.scalar(pa.scalar(operand.value, arrow))
        return pc.field(operand.name).cast(arrow)

    def _source(self, node: ast.expr) -> str:
        return ast.get_source_segment(self.text.strip(), node) or ast.unparse(node)

    def _fail(self, node: ast.expr, problem: str) -> NoReturn:
        before = self.text.strip().encode()[: node.col_offset]
        self._refuse(len(before.decode()), problem)

    def _refuse(self, offset: int, problem: str) -> NoReturn:
        blank = len(self.text) - len(self.text.lstrip())
        raise ConfigError(f"--where {self.text!r}, position {blank + offset + 1}: {problem}")
