"""What a compiler says of a subject that does not compile, told by the lines of the user's files."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from vfio_verify.errors import InputError
from vfio_verify.subject.source import Source
from vfio_verify.subject.source.signatures import Signature
from vfio_verify.subject.source.unit import ENTRY_FILE, OF_THE_WORLD
from vfio_verify.worker import sandbox
from vfio_verify.worker.sandbox import SandboxFeature

_SHOWN = 5
_WIDEST = 200
_ERROR = re.compile(r"^(?P<file>.+?):(?P<line>\d+):(?:(?P<column>\d+):)? (?:fatal )?error: (?P<text>.*)$", re.MULTILINE)
_WARNING = re.compile(r"^(?P<file>.+?):(?P<line>\d+):(?:\d+:)? warning: (?P<text>.*)$", re.MULTILINE)
_NOT_FOUND = re.compile(r"warning: (?:#warning )?\"?(<[^>\n]+>) was not found")
_UNKNOWN = re.compile(
    r"implicit declaration of function '(\w+)'|call to undeclared (?:library )?function '(\w+)'"
    r"|'(\w+)' undeclared|use of undeclared identifier '(\w+)'|unknown type name '(\w+)'"
    r"|(?:invalid use of|dereferencing pointer to) (?:undefined|incomplete) type '(?:struct |union )?(\w+)"
    r"|incomplete (?:definition of )?type '(?:struct |union )?(\w+)|'(\w+)' has (?:an )?incomplete type"
)
_NO_MEMBER = re.compile(
    r"'(?:const )?(?:struct |union )?(?P<a>\w+)'[^']*(?:'[^']*'\})? has no member named '(?P<b>\w+)'"
    r"|no member named '(?P<c>\w+)' in '(?:struct |union )?(?P<d>\w+)'"
)
_CONFINED = re.compile(
    r"Permission denied|Operation not permitted|file not found: /|[Cc]an(?:'t|not) open|cannot execute"
)
"""How a compiler complains of what its sandbox refuses."""
_NO_SPACE = "No space left on device"


class UnknownNamesError(InputError):
    """The text uses names that neither the world nor the sources define."""

    def __init__(self, message: str, names: frozenset[str]) -> None:
        super().__init__(message)
        self.names = names


class _Error(Struct, frozen=True):
    file: str
    line: int
    column: int
    text: str

    @property
    def told(self) -> str:
        column = f":{self.column}" if self.column else ""
        return f"{self.file}:{self.line}{column}: {self.text}"


def refusal(source: Source, status: int, told: str, parts: SandboxFeature) -> InputError:
    """What the compiler's messages say. Names that nobody knows are told, unless the first error is one of syntax:
    after that, a compiler loses names."""
    target, told = source.target, told.replace(OF_THE_WORLD, "")
    errors = [
        _Error(match["file"], int(match["line"]), int(match["column"] or 0), match["text"])
        for match in _ERROR.finditer(told)
    ]
    if any(error.text.endswith(_NO_SPACE) for error in errors):
        return InputError(f"{source.name}: the C compiler failed: {_NO_SPACE}; TMPDIR can name another directory")
    own = [error for error in errors if error.file != ENTRY_FILE]
    unknown: dict[str, str] = {}
    others: list[_Error] = []
    for error in own:
        if name := _unknown_name(error, source):
            unknown.setdefault(name, f"{error.file}:{error.line}")
        else:
            others.append(error)
    if unknown and not own[0].text.startswith("expected "):
        return unknown_names(source, unknown, told)
    if errors and not own:
        return InputError(
            f"{target.item.place}: {target.name}() is there, but its #if leaves it out when it is compiled; "
            "define what the condition asks for with -D NAME, or at the top of the file"
        )
    hint = f"\n{sandbox.HINT}" if parts and _CONFINED.search(told) else ""
    if not others:
        # Not an error in the text: the linker, a signal, a limit.
        tail = "; ".join(told.strip().splitlines()[-3:]) or "no message"
        return InputError(f"{source.name}: the C compiler failed (status {status}): {tail}{hint}")
    first, *further = others
    lines = [f"{source.name}: {target.name}() does not compile:", f"  {first.told}", *_caret(source, first)]
    lines += [f"  {error.told}" for error in further[: _SHOWN - 1]]
    if len(others) > _SHOWN:
        lines.append(f"  and {len(others) - _SHOWN} more")
    return InputError("\n".join(lines) + hint)


def _unknown_name(error: _Error, source: Source) -> str | None:
    """The name that nobody knows, as `STRUCT.FIELD` for a field of the world's, if that is the error."""
    names, field = _UNKNOWN.search(error.text), _NO_MEMBER.search(error.text)
    if field and (owner := field["a"] or field["d"]) and owner not in source.cut.claims:
        return f"{owner}.{field['b'] or field['c']}"
    return next(filter(None, names.groups())) if names else None


def _caret(source: Source, error: _Error) -> list[str]:
    """The line of an error, and a mark below its place. Compilers count a tab as up to eight columns."""
    line = source.text.whole_line(error.file, error.line).expandtabs()
    if not error.column or not line.strip() or error.column > min(len(line) + 1, _WIDEST):
        return []
    return [f"    {line[:_WIDEST]}", f"    {' ' * (error.column - 1)}^"]


def warnings(source: Source, told: str) -> tuple[str, ...]:
    """What a compiler warns of in the function under test, by its lines."""
    item = source.target.item
    first, last = item.line, item.source.fragment.line(item.end)
    found = {
        (int(match["line"]), match["text"]): None
        for match in _WARNING.finditer(told)
        if match["file"] == item.file and first <= int(match["line"]) <= last
    }
    return tuple(f"{item.file}:{line}: the compiler warns: {text}" for line, text in sorted(found)[:_SHOWN])


def unknown_names(source: Source, unknown: Mapping[str, str], told: str = "") -> UnknownNamesError:
    """The refusal of names that nobody defines, each with its place."""
    lines = [f"the world does not know `{name}` ({place})" for name, place in list(unknown.items())[:_SHOWN]]
    if len(unknown) > _SHOWN:
        lines.append(f"nor {len(unknown) - _SHOWN} other names")
    missing = dict.fromkeys((*source.missing, *_NOT_FOUND.findall(told)))
    if missing:
        lines.append(f"Not found: {', '.join(list(missing)[:_SHOWN])}. -I DIR names a directory of headers.")
    where = "in the file that you give"
    if source.target.signature is Signature.SEGMENTS:
        where += ", or give the library that has them with --link FILE.so"
    elif not source.linker:
        where += ", or give their sources with --tree DIR"
    lines.append(f"Define such names {where}, or open an issue so that the world learns them.")
    return UnknownNamesError("\n".join(lines), frozenset(unknown))
