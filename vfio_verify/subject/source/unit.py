"""The C text to compile: what the world needs to know first, the kept pieces, the adapter."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from vfio_verify.subject.source.cut import Cut, Target
from vfio_verify.subject.source.items import Item, Parsed
from vfio_verify.subject.source.signatures import Signature

# What meson defines for each Linux build with vfio.
_CONFIGURATION = ("CONFIG_LINUX", "CONFIG_POSIX", "CONFIG_VFIO")
_DEFINED = re.compile(r"defined\s*\(\s*(\w+)\s*\)|defined\s+(\w+)")
ADAPTER_FILE = "<adapter of vfio_verify>"

# The adapter's own words, which no macro of the sources may change. They end the unit, so
# nothing else misses them.
_WORDS = (
    "void struct vv_call iov iov_cnt total_size errp vbasedev res mapped address "
    "vfio_verify_entry vfio_verify_given vfio_verify_answer"
)
_ARGUMENTS = {
    Signature.RESOURCE_DEVICE: "(void *)vfio_verify_given->res, (void *)vfio_verify_given->vbasedev",
    Signature.RESOURCE: "(void *)vfio_verify_given->res",
    Signature.BOOL: (
        "(void *)vfio_verify_given->iov, vfio_verify_given->iov_cnt, (void *)&vfio_verify_answer, "
        "vfio_verify_given->total_size, (void *)vfio_verify_given->errp"
    ),
    Signature.POINTER: ("(void *)vfio_verify_given->iov, vfio_verify_given->iov_cnt, (void *)vfio_verify_given->errp"),
}


def write(cut: Cut, sources: Iterable[Parsed]) -> str:
    """The whole unit. Every kept piece comes after a `#line` with its file and line."""
    parsed_of = {id(parsed.fragment): parsed for parsed in sources}
    defines = [f"#define VFIO_VERIFY_SOURCE_DEFINES_{name} 1" for name in sorted(cut.claims)]
    configuration = {
        *_CONFIGURATION,
        *_assumed(cut.target, parsed_of[id(cut.target.item.fragment)]),
    } - cut.claims
    for name in sorted(configuration):
        defines += [f"#ifndef {name}", f"#define {name} 1", "#endif"]
    # QEMU generates its tracepoints when it is built, so no source defines them.
    used = {name for item in cut.kept for name in item.uses if name.startswith("trace_")}
    defines += [f"#define {name}(...) VFIO_VERIFY_TRACEPOINT(__VA_ARGS__)" for name in sorted(used - cut.claims)]
    pieces = [
        "/* Made by vfio_verify. */",
        *defines,
        '#include "vfio_verify/call.h"',
        '#include "vfio_verify/qemu.h"',
    ]
    by_file: dict[str, list[Item]] = defaultdict(list)
    for item in cut.kept:
        by_file[item.fragment.file].append(item)
    last = cut.target.item.fragment.file
    files = [file for file in by_file if file != last] + [last]
    for file, renamed in _clashes(by_file, files).items():
        pieces += [f"#define {name} vfio_verify_{number}_{name}" for number, name in renamed]
        pieces += _file(by_file[file], parsed_of)
        pieces += [f"#undef {name}" for _, name in renamed]
    return "\n".join([*pieces, _adapter(cut)])


def _assumed(target: Target, parsed: Parsed) -> set[str]:
    """What must be defined for the target to be compiled, where its conditions say so plainly."""
    assumed: set[str] = set()
    for group in parsed.pre.conditionals:
        branch = group.branch_of(target.item.start)
        if not group.complete or branch is None:
            continue
        first = group.directives[0]
        if (first.word == "ifdef" and branch == 0) or (first.word == "ifndef" and branch == 1):
            assumed.update(re.findall(r"[A-Za-z_]\w*", first.rest)[:1])
        elif first.word == "if" and branch == 0:
            terms = [term.strip().strip("()").strip() for term in re.sub(_DEFINED, r"\1\2", first.rest).split("&&")]
            if all(re.fullmatch(r"[A-Za-z_]\w*", term) for term in terms):
                assumed.update(terms)
    return assumed


def _clashes(by_file: dict[str, list[Item]], files: list[str]) -> dict[str, list[tuple[int, str]]]:
    """For each file, the static names to rename because a later file has its own of that name."""
    renamed: dict[str, list[tuple[int, str]]] = {}
    for number, file in enumerate(files):
        later = {name for other in files[number + 1 :] for item in by_file[other] for name in _variables(item)}
        statics = {name for item in by_file[file] if item.static for name in _variables(item)}
        renamed[file] = [(number, name) for name in sorted(statics & later)]
    return renamed


def _variables(item: Item) -> set[str]:
    if item.kind not in ("function", "prototype", "declaration"):
        return set()
    return {name for name in item.names if not name.startswith("struct ")}


def _file(items: list[Item], parsed_of: dict[int, Parsed]) -> list[str]:
    pieces: list[str] = []
    by_fragment: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        by_fragment[id(item.fragment)].append(item)
    for key, kept in by_fragment.items():
        parsed = parsed_of[key]
        for start, end in _ranges(kept, parsed):
            pieces += [
                line_marker(parsed.fragment.line(start), parsed.fragment.file),
                _emitted(parsed, start, end),
            ]
    return pieces


def _ranges(items: list[Item], parsed: Parsed) -> list[tuple[int, int]]:
    """The text to keep: the items, and each directive of every group that they touch."""
    ranges = [(item.start, item.end) for item in items]
    touched = list(ranges)
    for group in sorted(parsed.pre.conditionals, key=lambda group: group.start, reverse=True):
        if group.complete and any(start < group.end and group.start < end for start, end in touched):
            ranges += [(directive.start, directive.end) for directive in group.directives]
            touched.append((group.directives[0].start, group.directives[0].end))
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _emitted(parsed: Parsed, start: int, end: int) -> str:
    piece = parsed.pre.text[start:end]
    if match := re.match(r"\s*#\s*include\s*(<[^>\n]*>)", piece):
        # A header that this machine lacks matters only if something of it is used.
        return f"#if __has_include({match.group(1)})\n#include {match.group(1)}\n#endif"
    return piece


def line_marker(line: int, file: str) -> str:
    escaped = file.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'#line {line} "{escaped}"'


def _adapter(cut: Cut) -> str:
    target = cut.target
    later = any(
        item.kind == "macro" and target.name in item.names and item.start > target.item.start for item in cut.kept
    )
    words = [*_WORDS.split(), *([target.name] if later else [])]
    call = f"({target.name})({_ARGUMENTS[target.signature]})"
    if target.signature is Signature.BOOL:
        body = [
            f"    vfio_verify_given->mapped = !!{call};",
            "    vfio_verify_given->address = vfio_verify_answer;",
        ]
    else:
        failed = "(void *)0" if target.signature is Signature.POINTER else "(void *)-1"
        body = [
            f"    vfio_verify_answer = (void *){call};",
            f"    vfio_verify_given->mapped = vfio_verify_answer != {failed};",
            "    vfio_verify_given->address = vfio_verify_answer;",
        ]
    return "\n".join(
        [
            line_marker(1, ADAPTER_FILE),
            *[f"#undef {word}" for word in words],
            '__attribute__((visibility("default")))',
            "void vfio_verify_entry(struct vv_call *vfio_verify_given)",
            "{",
            "    void *vfio_verify_answer = (void *)-1;",
            *body,
            "}",
            "",
        ]
    )
