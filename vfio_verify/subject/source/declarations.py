"""What a declaration at file scope is, and which names it brings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import tree_sitter

from vfio_verify.subject.source import signatures
from vfio_verify.subject.source.signatures import CType

KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern "  # noqa: SIM905
    "float for goto if inline int long register restrict return short signed sizeof static struct "
    "switch typedef union unsigned void volatile while _Bool".split()
)


@dataclass(frozen=True)
class Described:
    """`kind` is typedef, prototype, extern or declaration; tags are named `struct x`."""

    kind: str
    names: frozenset[str]
    aliases: dict[str, CType]


def describe(written: str) -> Described:
    """Tell what one declaration, comments gone, is and which names it brings."""
    root = signatures.parse(re.sub(r"\bg_autofree\b", "          ", written))
    names: set[str] = set()
    aliases: dict[str, CType] = {}
    for node in _walk(root):
        if node.type in (
            "struct_specifier",
            "union_specifier",
            "enum_specifier",
        ) and node.child_by_field_name("body"):
            if name := node.child_by_field_name("name"):
                names.add("struct " + _text(name))
        elif node.type == "enumerator" and (name := node.child_by_field_name("name")):
            names.add(_text(name))
    first = root.named_children[0] if root.named_children else None
    is_typedef = bool(re.match(r"\s*typedef\b", written))
    is_extern = bool(re.match(r"\s*extern\b", written))
    prototype = False
    if first is not None and first.type in ("declaration", "type_definition") and not root.has_error:
        base = signatures.base_name(first.child_by_field_name("type"))
        for declarator in first.children_by_field_name("declarator"):
            declared = _declared(declarator)
            names.add(declared)
            prototype = prototype or (not is_typedef and _is_prototype(declarator))
            if is_typedef:
                aliases[declared] = CType(base, signatures.depth_of(declarator))
    elif root.has_error:
        names |= _names_by_tokens(written)
        prototype = not is_typedef and bool(re.search(r"\w\s*\([^=]*\)\s*;\s*$", written)) and "=" not in written
    if is_typedef:
        kind = "typedef"
    elif prototype:
        kind = "prototype"
    elif is_extern:
        kind = "extern"
    else:
        kind = "declaration"
    return Described(kind, frozenset(names), aliases)


def _walk(root: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    """All nodes, by a loop: hostile text nests deeper than the stack."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.named_children


def _declared(declarator: tree_sitter.Node) -> str:
    node = declarator
    while node.type not in ("identifier", "type_identifier", "primitive_type"):
        inner = node.child_by_field_name("declarator")
        if inner is None:
            inner = next((c for c in node.named_children if c.type.endswith(("declarator", "identifier"))), None)
        if inner is None:
            break
        node = inner
    return _text(node)


def _is_prototype(declarator: tree_sitter.Node) -> bool:
    node: tree_sitter.Node | None = declarator
    while node is not None and node.type == "pointer_declarator":
        node = node.child_by_field_name("declarator")
    if node is None or node.type != "function_declarator":
        return False
    inner = node.child_by_field_name("declarator")
    return inner is not None and inner.type != "parenthesized_declarator"


def _names_by_tokens(written: str) -> set[str]:
    """What a declaration with macros in it names: the last word before `=`, `[` or the end."""
    flat = re.sub(r"\{.*\}", " ", written, flags=re.DOTALL)
    while (shorter := re.sub(r"\([^()]*\)", " ", flat)) != flat:
        flat = shorter
    words = re.findall(r"[A-Za-z_]\w*", re.split(r"[=\[;]", flat)[0])
    return {words[-1]} - KEYWORDS if words else set()


def _text(node: tree_sitter.Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")
