"""Pointers that CBMC cannot tell: its pointers have fewer bits than those of a machine.

Where a subject adds to a pointer, it is looked at whether the sum is the one that a machine has. If it may be another,
that is told, and the proof says nothing of such a run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from functools import cache

from msgspec import Struct
from tree_sitter import Node, Parser, Query, QueryCursor

from vfio_verify.subject.source.signatures import LANGUAGE

FAR = "a pointer that is moved by 2^47 bytes or more, or out of the addresses that programs have"
UNREAD = "a sum, perhaps of a pointer, that the parser cannot read"
_SUMS = """
(binary_expression operator: ["+" "-"]) @sum
(assignment_expression operator: ["+=" "-="]) @sum
(subscript_expression) @sum
(declaration
  type: (type_identifier) @auto
  declarator: (init_declarator value: (_) @value) (#eq? @auto "__auto_type"))
"""
_TYPE_NAMES = """
(type_definition declarator: (type_identifier) @name)
(type_definition declarator: (pointer_declarator declarator: (type_identifier) @name))
"""
_CONSTANT = frozenset({"number_literal", "char_literal", "sizeof_expression", "offsetof_expression"})
# Where C asks for a constant.
_NO_CODE = frozenset({"array_declarator", "enumerator", "bitfield_clause", "static_assert_declaration"})
_CHANGES = frozenset({"call_expression", "update_expression", "assignment_expression", "compound_statement"})
# A line marker may stand in the middle of an expression; of attributes the parser knows not all.
_NO_EXPRESSION = re.compile(rb"^#.*|__attribute__\s*\(\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)\)", re.MULTILINE)

# What asks for a type where the parser wants an expression, and is a number.
_OFFSET = re.compile(rb"__builtin_offsetof\s*\((?:[^()]|\([^()]*\))*\)")


@cache
def _query(text: str) -> Query:
    return Query(LANGUAGE, text)


class _Edit(Struct, frozen=True):
    """A text that goes to a place, and takes that of what stands there. Of several at one place, the one of a smaller
    order is first."""

    at: int
    order: int
    text: bytes
    instead_of: int = 0


def guarded(text: bytes, own: Set[int]) -> tuple[bytes, list[int]]:
    """A preprocessed text with an assertion at each sum of a pointer, in functions that have one of these rows, and the
    rows of sums that cannot be read. Each line stays where it is."""
    code = _NO_EXPRESSION.sub(lambda found: _blank(found[0]), text)
    code = _OFFSET.sub(lambda found: b"0" + _blank(found[0][1:]), code)
    unread = []
    root = Parser(LANGUAGE).parse(code).root_node
    types = {node.text for node in QueryCursor(_query(_TYPE_NAMES)).captures(root).get("name", ())}
    edits: list[_Edit] = []
    for function in root.children:
        body = function.child_by_field_name("body")
        rows = range(function.start_point.row, function.end_point.row + 1)
        if function.type != "function_definition" or body is None or own.isdisjoint(rows):
            continue
        for _, found in QueryCursor(_query(_SUMS)).matches(body):
            if "auto" in found:
                # CBMC reads what begins such a variable twice, and would find two of each name in it.
                ((auto,), (value,)) = found["auto"], found["value"]
                edits.append(_Edit(auto.start_byte, 0, b"__typeof__(%s)" % _in_a_line(value), len(auto.text or b"")))
                continue
            (node,) = found["sum"]
            if node.has_error:
                unread.append(node.start_point.row)
            elif not (_is_constant(node, body) or _is_cast(node, types)):
                edits += _assertions(node)
    parts, at = [], 0
    for edit in sorted(edits, key=lambda one: (one.at, one.order)):
        parts += [text[at : edit.at], edit.text]
        at = edit.at + edit.instead_of
    return b"".join([*parts, text[at:]]), unread


def _blank(text: bytes) -> bytes:
    """As many blanks, in as many lines."""
    return re.sub(rb"[^\n]", b" ", text)


def _is_cast(node: Node, types: Set[bytes | None]) -> bool:
    """Whether it is a number with a sign, and a type before it: to a parser that knows no types a difference."""
    left = node.child_by_field_name("left")
    return left is not None and left.type == "parenthesized_expression" and (left.text or b"")[1:-1].strip() in types


def _is_constant(node: Node, body: Node) -> bool:
    """Whether it is where only constants may be."""
    above = node.parent
    while above is not None and above != body:
        if above.type in _NO_CODE or (above.type == "case_statement" and above.child_by_field_name("value") == node):
            return True
        if above.type == "declaration" and any(child.text == b"static" for child in above.children):
            return True
        node, above = above, above.parent
    return False


def _assertions(node: Node) -> Iterator[_Edit]:
    """What is inserted for a sum."""
    if node.type == "subscript_expression":
        pointer, amount = node.child_by_field_name("argument"), node.child_by_field_name("index")
    else:
        pointer, amount = node.child_by_field_name("left"), node.child_by_field_name("right")
    if pointer is None or amount is None or pointer.type in _CONSTANT or amount.type in _CONSTANT:
        return
    yield from _assertion(node, pointer, amount)
    if node.type == "binary_expression" and not _is_minus(node):
        yield from _assertion(node, amount, pointer)


def _is_minus(node: Node) -> bool:
    operator = node.child_by_field_name("operator")
    return operator is not None and operator.type.startswith("-")


def _assertion(node: Node, pointer: Node, amount: Node) -> Iterator[_Edit]:
    """Look at the amount, and at the sum where the pointer can be evaluated once more."""
    size = amount.end_byte - amount.start_byte
    # Two of one expression are in one scope to CBMC.
    name, written = b"vm_amount_%d_%d" % (amount.start_byte, size), _in_a_line(pointer)
    is_pointer = b"__builtin_classify_type(%s)==5" % written
    near = b"((unsigned long)%s+(1ul<<47)<1ul<<48)" % name
    if node.type != "subscript_expression" and not _changes(pointer):
        element = b"sizeof(*__builtin_choose_expr(%s,(%s),(char*)0))" % (is_pointer, written)
        sign = b"-" if _is_minus(node) else b"+"
        moved = b"((unsigned long)(%s)%s(unsigned long)%s*%s)" % (written, sign, name, element)
        near = b"(%s&&(((unsigned long)(%s)^%s)>>53)==0)" % (near, written, moved)
    yield _Edit(amount.start_byte, -size, b"({__typeof__((%s)+0) %s=(" % (_in_a_line(amount), name))
    yield _Edit(
        amount.end_byte,
        size,
        b');if(%s){__CPROVER_assert(%s,"LEFT %s");__CPROVER_assume(%s);}%s;})'
        # The difference of two pointers moves none.
        % (b"%s&&__builtin_classify_type(%s)!=5" % (is_pointer, name), near, FAR.encode(), near, name),
    )


def _changes(node: Node) -> bool:
    """Whether to evaluate it changes anything."""
    return node.type in _CHANGES or any(_changes(child) for child in node.children)


def _in_a_line(node: Node) -> bytes:
    return b" ".join((node.text or b"").split())
