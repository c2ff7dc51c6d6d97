"""What a declaration at file scope is, and which names it brings."""

from __future__ import annotations

import re
from collections.abc import Iterator

import tree_sitter
from msgspec import Struct

from vfio_verify.subject.source.signatures import CType, base_name, declarators, depth_of, node_text, parse

KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern "  # noqa: SIM905
    "float for goto if inline int long register restrict return short signed sizeof static struct "
    "switch typedef union unsigned void volatile while _Bool".split()
)
_SPECIFIERS = ("struct_specifier", "union_specifier", "enum_specifier")


class Declaration(Struct, frozen=True):
    """What one declaration is. Tags are named `struct x`."""

    kind: str
    """typedef, prototype, extern or declaration."""
    names: frozenset[str]
    aliases: dict[str, CType] = {}
    """What the names of a typedef stand for."""
    tag: str | None = None
    """The tag, where it is `typedef struct TAG NAME;`, which defines no struct."""
    has_body: bool = False
    """It says what a struct, a union or an enum holds."""


def describe(written: str) -> Declaration:
    """Tell what one declaration, comments gone, is and which names it brings."""
    root = parse(re.sub(r"\bg_autofree\b", "          ", written))
    names: set[str] = set()
    has_body = root.has_error and "{" in written
    for node in walk(root):
        name = node.child_by_field_name("name")
        if node.type in _SPECIFIERS and node.child_by_field_name("body"):
            has_body = True
            names |= {"struct " + node_text(name)} if name else set()
        elif node.type == "enumerator" and name:
            names.add(node_text(name))
    is_typedef = bool(re.match(r"\s*typedef\b", written))
    is_prototype, tag = False, None
    aliases: dict[str, CType] = {}
    first = root.named_children[0] if root.named_children else None
    if root.has_error:
        names |= _names_by_tokens(written)
        ends_as_one = written.rstrip().removesuffix(";").rstrip().endswith(")")
        is_prototype = ends_as_one and "=" not in written and bool(re.search(r"\w\s*\(", written))
    elif first is not None and first.type in ("declaration", "type_definition"):
        type_node, listed = first.child_by_field_name("type"), first.children_by_field_name("declarator")
        base = base_name(type_node)
        for declarator in listed:
            *_, declared = declarators(declarator)
            names.add(node_text(declared))
            is_prototype |= _is_prototype(declarator)
            if is_typedef:
                aliases[node_text(declared)] = CType(base, depth_of(declarator))
        if type_node and type_node.type in _SPECIFIERS[:2] and not has_body and list(aliases.values()) == [CType(base)]:
            tag = base
    if is_typedef:
        kind = "typedef"
    elif is_prototype:
        kind = "prototype"
    else:
        kind = "extern" if re.match(r"\s*extern\b", written) else "declaration"
    return Declaration(kind, frozenset(names), aliases, tag, has_body)


def walk(root: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    """All nodes, by a loop: hostile text nests deeper than the stack."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.named_children


def _is_prototype(declarator: tree_sitter.Node) -> bool:
    chain = [node.type for node in declarators(declarator)]
    while chain[0] == "pointer_declarator":
        chain.pop(0)
    return chain[0] == "function_declarator" and chain[1:2] != ["parenthesized_declarator"]


def _names_by_tokens(written: str) -> set[str]:
    """What a declaration with macros in it names: the last word before `=`, `[` or the end."""
    opening, closing = written.find("{"), written.rfind("}")
    flat = f"{written[:opening]} {written[closing + 1 :]}" if 0 <= opening < closing else written
    words = re.findall(r"[A-Za-z_]\w*", re.split(r"[=\[;]", _without_parentheses(flat))[0])
    return {words[-1]} - KEYWORDS if words else set()


def _without_parentheses(text: str) -> str:
    """The text with a space in place of each group in parentheses."""
    pieces, depth, done = [], 0, 0
    for match in re.finditer(r"[()]", text):
        if match[0] == "(":
            pieces += [text[done : match.start()]] if depth == 0 else []
            depth += 1
        elif depth:
            depth -= 1
            done = match.end()
    return " ".join([*pieces, text[done:] if depth == 0 else ""])
