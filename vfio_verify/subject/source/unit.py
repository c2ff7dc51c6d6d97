"""The C text to compile: what the world needs to know first, the kept pieces, the entry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from vfio_verify.subject.source.cut import Cut, Target
from vfio_verify.subject.source.items import Item
from vfio_verify.subject.source.signatures import Signature
from vfio_verify.subject.source.world_names import WorldNames

# What meson defines for each Linux build with vfio.
_CONFIGURATION = ("CONFIG_LINUX", "CONFIG_POSIX", "CONFIG_VFIO")
_DEFINED = re.compile(r"defined\s*\(\s*(\w+)\s*\)|defined\s+(\w+)")
OF_THE_WORLD = "vfio_verify_world_"
"""Before the world's own names, where the sources define them too."""
ENTRY_FILE = "<entry of vfio_verify>"

# The own words of the entry, which no macro of the sources may change. They end the unit, so
# nothing else misses them.
_WORDS = (
    "void struct vv_call iov iov_cnt total_size errp vbasedev res mapped address "
    "vfio_verify_entry vfio_verify_given vfio_verify_answer "
    "vfio_verify_call vv_map_segments vfio_verify_segment const static int unsigned size_t return"
)
_ARGUMENTS = {
    Signature.RESOURCE_DEVICE: "(void *)vfio_verify_given->res, (void *)vfio_verify_given->vbasedev",
    Signature.RESOURCE: "(void *)vfio_verify_given->res",
    Signature.BOOL: (
        "(void *)vfio_verify_given->iov, vfio_verify_given->iov_cnt, (void *)&vfio_verify_answer, "
        "vfio_verify_given->total_size, (void *)vfio_verify_given->errp"
    ),
    Signature.POINTER: "(void *)vfio_verify_given->iov, vfio_verify_given->iov_cnt, (void *)vfio_verify_given->errp",
}

# Its integers may be of other types.
_SEGMENTS_CALL = """\
static int vfio_verify_call(const struct vfio_verify_segment *iov, unsigned int iov_cnt,
                            size_t total_size, void **address)
{{
    return ({name})(iov, iov_cnt, total_size, address) != 0;
}}
"""


def write(cut: Cut, world: WorldNames) -> str:
    """The whole unit. Every kept piece comes after a `#line` with its file and line."""
    defines = []
    for name in sorted({*_CONFIGURATION, *_assumed(cut.target.item)} - cut.claims):
        defines += [f"#ifndef {name}", f"#define {name} 1", "#endif"]
    # QEMU generates its tracepoints when it is built, so no source defines them.
    used = {name for item in cut.kept for name in item.uses.names if name.startswith("trace_")}
    defines += [f"#define {name}(...) VFIO_VERIFY_TRACEPOINT(__VA_ARGS__)" for name in sorted(used - cut.claims)]
    pieces = ["/* Made by vfio_verify. */", *defines, *_headers(cut, world)]
    files = list(cut.by_file().values())
    for number, items in enumerate(files):
        # One unit holds all files, yet each file's statics are its own: a later file may have its own of a name.
        later = {name for other in files[number + 1 :] for item in other for name in _variables(item)}
        renamed = sorted(later & {name for item in items if item.static for name in _variables(item)})
        pieces += [f"#define {name} vfio_verify_{number}_{name}" for name in renamed]
        for _, kept in groupby(items, key=lambda item: item.source):
            pieces += _pieces(list(kept))
        pieces += [f"#undef {name}" for name in renamed]
    return "\n".join([*pieces, _entry(cut)])


def _headers(cut: Cut, world: WorldNames) -> Iterator[str]:
    """The world's headers, in which each name that the sources define gives way."""
    completed = world.opaque & {tag for item in cut.kept for tag in item.tags}
    renamed = sorted((cut.claims & world.identifiers) - completed)
    yield '#include "vfio_verify/system.h"'
    yield from (f"#define {name} {OF_THE_WORLD}{name}" for name in renamed)
    yield '#include "vfio_verify/call.h"'
    yield '#include "vfio_verify/qemu.h"'
    yield from (f"#undef {name}" for name in [*renamed, *sorted(cut.claims & world.macros)])


def _assumed(target: Item) -> set[str]:
    """What must be defined for the target to be compiled, where its conditions say so plainly."""
    assumed: set[str] = set()
    for group in target.source.groups_around(target.start, target.end):
        first, branch = group.directives[0], group.branch_of(target.start)
        if (first.word == "ifdef" and branch == 0) or (first.word == "ifndef" and branch == 1):
            assumed.update(re.findall(r"[A-Za-z_]\w*", first.rest)[:1])
        elif first.word == "if" and branch == 0:
            terms = [term.strip().strip("()").strip() for term in re.sub(_DEFINED, r"\1\2", first.rest).split("&&")]
            if all(re.fullmatch(r"[A-Za-z_]\w*", term) for term in terms):
                assumed.update(terms)
    return assumed


def _variables(item: Item) -> frozenset[str]:
    return item.identifiers if item.kind in ("function", "prototype", "declaration") else frozenset()


def _pieces(items: list[Item]) -> Iterator[str]:
    """What is kept of one fragment."""
    source = items[0].source
    headers = {item.start: item.directive.included for item in items if item.kind == "include" and item.directive}
    for start, end in _ranges(items):
        yield line_marker(source.fragment.line(start), source.fragment.file)
        if header := headers.get(start):
            # A header that this machine lacks matters only if something of it is used.
            yield f"#if __has_include({header})\n#include {header}\n#else\n#warning {header} was not found\n#endif"
        else:
            yield source.text[start:end]


def _ranges(items: list[Item]) -> list[tuple[int, int]]:
    """The text to keep: the items, and each directive of every group that they touch."""
    ranges = {(item.start, item.end) for item in items}
    for item in items:
        for group in item.source.groups_around(item.start, item.end):
            ranges |= {(directive.start, directive.end) for directive in group.directives}
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def line_marker(line: int, file: str) -> str:
    escaped = file.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'#line {line} "{escaped}"'


def _entry(cut: Cut) -> str:
    """The function by which the world calls the subject (call.h)."""
    target = cut.target
    later = any(
        item.kind == "macro" and target.name in item.names and item.start > target.item.start for item in cut.kept
    )
    words = [*_WORDS.split(), *([target.name] if later else [])]
    undefined = "\n".join(f"#undef {word}" for word in words)
    if target.signature is Signature.SEGMENTS:
        before, body = (
            _SEGMENTS_CALL.format(name=target.name),
            "    vv_map_segments(vfio_verify_given, vfio_verify_call);",
        )
    else:
        before, body = "", _qemu_call(target)
    return f"""\
{line_marker(1, ENTRY_FILE)}
{undefined}
{before}__attribute__((visibility("default")))
void vfio_verify_entry(struct vv_call *vfio_verify_given)
{{
{body}
}}
"""


def _qemu_call(target: Target) -> str:
    """What calls a function of a signature that QEMU has had."""
    call = f"({target.name})({_ARGUMENTS[target.signature]})"
    if target.signature is Signature.BOOL:
        answer = f"    vfio_verify_given->mapped = !!{call};"
    else:
        failed = "(void *)0" if target.signature is Signature.POINTER else "(void *)-1"
        answer = (
            f"    vfio_verify_answer = (void *){call};\n    vfio_verify_given->mapped = vfio_verify_answer != {failed};"
        )
    return f"""\
    void *vfio_verify_answer = (void *)-1;
{answer}
    vfio_verify_given->address = vfio_verify_answer;"""
