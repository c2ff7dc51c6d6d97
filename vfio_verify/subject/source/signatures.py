"""The shapes such a helper has had, and how one is told by its types.

The shapes are those of the versions posted upstream (design.md, section 6).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum

import tree_sitter
import tree_sitter_c
from msgspec import Struct


class Signature(StrEnum):
    """A known shape; the value is how messages write it."""

    RESOURCE_DEVICE = "void *f(struct virtio_gpu_simple_resource *res, VFIODevice *vdev)"
    RESOURCE = "void *f(struct virtio_gpu_simple_resource *res)"
    BOOL = "bool f(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp)"
    POINTER = "void *f(struct iovec *iov, unsigned int n, Error **errp)"
    SEGMENTS = "int f(const struct vfio_verify_segment *segments, unsigned int n, size_t total_size, void **address)"
    """That of an adapter (vfio_verify.h)."""

    @property
    def is_told_total(self) -> bool:
        """Whether the total size is given, as a parameter or in the resource. Else it is the sum of the lengths."""
        return self is not Signature.POINTER

    @property
    def has_errp(self) -> bool:
        """Whether it can set an error (clause ERROR_SET)."""
        return self in (Signature.BOOL, Signature.POINTER)


class CType(Struct, frozen=True):
    """A type as far as signatures need it: its name, and how many pointers deep it is."""

    base: str
    pointers: int = 0


class Head(Struct, frozen=True):
    """A function's name, types, and the text of its head on one line."""

    name: str
    result: CType
    parameters: tuple[CType, ...]
    written: str


_INTEGER = "integer"
_RESOURCE = CType("virtio_gpu_simple_resource", 1)
_IOVEC = CType("iovec", 1)
_ERRP = CType("Error", 2)
_SEGMENTS = CType("vfio_verify_segment", 1)
_KNOWN = {
    (CType("void", 1), (_RESOURCE, CType("VFIODevice", 1))): Signature.RESOURCE_DEVICE,
    (CType("void", 1), (_RESOURCE,)): Signature.RESOURCE,
    (CType("bool"), (_IOVEC, CType(_INTEGER), CType("void", 2), CType(_INTEGER), _ERRP)): Signature.BOOL,
    (CType("void", 1), (_IOVEC, CType(_INTEGER), _ERRP)): Signature.POINTER,
    (CType(_INTEGER), (_SEGMENTS, CType(_INTEGER), CType(_INTEGER), CType("void", 2))): Signature.SEGMENTS,
}
_INTEGER_NAMES = re.compile(
    r"(?:(?:unsigned|signed|long|short|int|char|__u?int128)\b\s*)+"
    r"|u?int(?:_(?:least|fast))?(?:8|16|32|64|ptr|max)_t|s?size_t|off_t|off64_t|loff_t|__[us](?:8|16|32|64)|u(?:8|16|32|64)"
    r"|u_?int|ulong|ushort|g(?:u?(?:int(?:8|16|32|64)?|long|short|intptr)|s?size|offset)|hwaddr|ram_addr_t|ptrdiff_t"
)
_NOISE = re.compile(
    r"\b(?:__attribute__|__attribute|__declspec|_Alignas|G_GNUC_\w+|QEMU_[A-Z_]+)\b\s*(?P<args>\()?"
    r"|\b(?:coroutine_fn|coroutine_mixed_fn|no_coroutine_fn|co_wrapper\w*|G_NORETURN|_Noreturn|__extension__"
    r"|static|extern|inline|__inline|__inline__|register|g_autofree|const|volatile|restrict|__restrict|__restrict__)\b"
)
_LONGEST_HEAD = 10_000  # characters
LANGUAGE = tree_sitter.Language(tree_sitter_c.language())


def parse(text: str) -> tree_sitter.Node:
    """tree-sitter's tree of a piece of C; it never fails, but may hold ERROR nodes."""
    return tree_sitter.Parser(LANGUAGE).parse(text.encode("utf-8", "replace")).root_node


def recognise(head: Head, aliases: Mapping[str, CType]) -> Signature | None:
    """The known signature these types make; `aliases` are the typedefs of the same sources."""
    return _KNOWN.get((_plain(head.result, aliases), tuple(_plain(one, aliases) for one in head.parameters)))


def _plain(written: CType, aliases: Mapping[str, CType]) -> CType:
    base, pointers = written.base, written.pointers
    for _ in range(10):  # typedefs of typedefs; ten are plenty, and a loop in them must end
        if base not in aliases or aliases[base].base == base:
            break
        pointers += aliases[base].pointers
        base = aliases[base].base
    if base == "gpointer":
        base, pointers = "void", pointers + 1
    if base in ("_Bool", "gboolean"):
        base = "bool"
    return CType(_INTEGER if _INTEGER_NAMES.fullmatch(base) else base, pointers)


def matching(text: str, opening: int) -> int:
    """The offset after the parenthesis that closes the one at `opening`; the end if none does."""
    depth = 0
    for match in re.compile(r"[()]").finditer(text, opening):
        depth += 1 if match.group() == "(" else -1
        if depth == 0:
            return match.end()
    return len(text)


def without_noise(text: str) -> str:
    """The text without attributes, storage classes and qualifiers, which do not make a type."""
    done, pieces = 0, []
    for match in _NOISE.finditer(text):
        if match.start() < done:
            continue
        pieces.append(text[done : match.start()])
        done = matching(text, match.start("args")) if match.group("args") else match.end()
    return " ".join([*pieces, text[done:]])


def parse_head(text: str) -> Head | None:
    """Read what stands before a function's body; comments are gone already. None if it is no head."""
    written = re.sub(r"\s+", " ", text).strip()
    plain = without_noise(text)
    attempts = [plain, re.sub(r"\b[A-Z_][A-Z0-9_]{2,}\b(?=\s+[\w*])", " ", plain)]
    for attempt in attempts if len(plain) <= _LONGEST_HEAD else ():  # what is no head makes the parser slow
        root = parse(attempt + "{}")
        definition = root.named_children[0] if root.named_child_count == 1 else None
        if definition is None or definition.type != "function_definition" or root.has_error:
            continue
        return _head(definition, written)
    # What no parser reads (a head made by macros) still has a name.
    match = re.search(r"\b([A-Za-z_]\w*+)\s*+\(", plain)
    return Head(match.group(1), CType("?"), (), written) if match else None


def _head(definition: tree_sitter.Node, written: str) -> Head:
    chain = list(declarators(definition.child_by_field_name("declarator")))
    kinds = [node.type for node in chain]
    name = node_text(chain[-1]) if kinds[-1:] == ["identifier"] else "?"
    if kinds.count("function_declarator") != 1:
        return Head(name, CType("?"), (), written)  # such as one that returns a pointer to a function
    function = kinds.index("function_declarator")
    result = CType(base_name(definition.child_by_field_name("type")), kinds[:function].count("pointer_declarator"))
    listed = chain[function].child_by_field_name("parameters")
    parameters = [] if listed is None else [node for node in listed.named_children if node.type != "comment"]
    types = tuple(_parameter(node) for node in parameters)
    return Head(name, result, () if types == (CType("void"),) else types, written)


def _parameter(node: tree_sitter.Node) -> CType:
    if node.type != "parameter_declaration":
        return CType("?")
    return CType(base_name(node.child_by_field_name("type")), depth_of(node.child_by_field_name("declarator")))


def declarators(node: tree_sitter.Node | None) -> Iterator[tree_sitter.Node]:
    """A declarator and those inside it, down to the name that is declared, if there is one."""
    while node is not None:
        yield node
        node = node.child_by_field_name("declarator") or next(
            (child for child in node.named_children if child.type.endswith(("declarator", "identifier"))), None
        )


def depth_of(declarator: tree_sitter.Node | None) -> int:
    """How many pointers (or arrays, which a parameter makes pointers) a declarator adds."""
    kinds = [node.type for node in declarators(declarator)]
    if any("function" in kind for kind in kinds):
        return 1000  # a pointer to a function: in no known signature
    return sum(kind.endswith(("pointer_declarator", "array_declarator")) for kind in kinds)


def base_name(node: tree_sitter.Node | None) -> str:
    """The name of a type without `struct`, on one line."""
    if node is None:
        return "?"
    if node.type in ("struct_specifier", "union_specifier", "enum_specifier"):
        node = node.child_by_field_name("name") or node
    return re.sub(r"\s+", " ", node_text(node)).strip()


def node_text(node: tree_sitter.Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")
