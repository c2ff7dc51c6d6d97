"""README, CONTRIBUTING and docs/ agree with the tool and with each other: links, commands, options, names, imports."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from places import CHECKOUT, TESTS

from vfio_verify.campaign.replay import STATUSES
from vfio_verify.cli.main import cli
from vfio_verify.subject.source.signatures import Signature
from vfio_verify.subject.source.world_names import read_names
from vfio_verify.values.case import KERNEL_FAULT_KINDS
from vfio_verify.values.conventions import conventions
from vfio_verify.values.spec import SEVERITIES

README, DOCS = CHECKOUT / "README.md", CHECKOUT / "docs"
FOR_USERS = (README, *sorted(DOCS.glob("*.md")))
ALL = (*FOR_USERS, CHECKOUT / "CONTRIBUTING.md", TESTS / "README.md")


def named(documents: tuple[Path, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("document", documents, ids=[str(path.relative_to(CHECKOUT)) for path in documents])


def tokens(document: Path) -> Iterator[Token]:
    for token in MarkdownIt().enable("table").parse(document.read_text()):
        yield token
        yield from token.children or ()


def test_there_are_documents() -> None:
    assert len(FOR_USERS) > 5


# ---- links ---------------------------------------------------------------------------------------------------


def anchors(document: Path) -> set[str]:
    """One for each heading, as GitHub makes them."""
    parsed = list(tokens(document))
    headings = [after.content for token, after in itertools.pairwise(parsed) if token.type == "heading_open"]
    dashed = [heading.lower().replace(" ", "-") for heading in headings]
    return {"".join(c for c in text if c in "-_" or unicodedata.category(c)[0] in "LN") for text in dashed}


@named(ALL)
def test_every_link_inside_the_project_leads_to_a_file_and_a_heading(document: Path) -> None:
    links = [str(token.attrs["href"]) for token in tokens(document) if token.type == "link_open"]
    for link in links:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.is_relative_to(CHECKOUT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_document_is_reached_from_readme() -> None:
    linked = {str(token.attrs["href"]).partition("#")[0] for token in tokens(README) if token.type == "link_open"}
    assert {str(path.relative_to(CHECKOUT)) for path in DOCS.glob("*.md")} <= linked


# ---- commands and options ------------------------------------------------------------------------------------------


_COMMAND = re.compile(r"(?:\$ |\.venv/bin/| *- run: |.*[|&] )?vfio-verify (\S.*)")


def commands(document: Path) -> Iterator[list[str]]:
    """The words after each `vfio-verify`, in code that is a command line."""
    for token in tokens(document):
        if token.type in ("code_inline", "fence"):
            for line in token.content.splitlines():
                if found := _COMMAND.fullmatch(line):
                    lexer = shlex.shlex(found[1], posix=True, punctuation_chars="|")
                    lexer.whitespace_split = True  # a # that begins a word is a comment's
                    words = list(lexer)
                    yield words[: words.index("|")] if "|" in words else words


def options_of(command: str) -> set[str]:
    return {option for param in cli.commands[command].params for option in (*param.opts, *param.secondary_opts)}


@named(ALL)
def test_every_command_line_names_a_command_and_options_that_there_are(document: Path) -> None:
    found = list(commands(document))
    assert found or document.name in ("README.md", "limits.md")
    for command, *words in found:
        assert command in cli.commands, (command, *words)
        given = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
        assert given <= options_of(command), (command, *words)


@named(FOR_USERS)
def test_every_option_that_is_named_alone_is_one_of_some_command(document: Path, pytestconfig: pytest.Config) -> None:
    known = {option for command in cli.commands for option in options_of(command)}
    for token in tokens(document):
        if token.type == "code_inline" and token.content.startswith("--"):
            option = re.split("[ =]", token.content)[0]
            is_of_pytest = hasattr(pytestconfig.option, option[2:].replace("-", "_"))
            assert option in known or (option.startswith("--vfio-") and is_of_pytest), token.content


def test_the_commands_are_all_told() -> None:
    told = {command for document in FOR_USERS for command, *_ in commands(document)}
    assert set(cli.commands) <= told


# ---- names --------------------------------------------------------------------------------------------------------


def first_column(document: Path, heading: str) -> list[str]:
    """Of the table with this heading."""
    parsed = list(tokens(document))
    (start,) = (i for i, token in enumerate(parsed) if token.type == "inline" and token.content == heading)
    end = next(i for i in range(start, len(parsed)) if parsed[i].type == "table_close")
    rows = [i for i in range(start, end) if parsed[i].type == "tr_open"]
    return [parsed[i + 2].content.strip("`") for i in rows]


def test_the_tables_have_what_there_is() -> None:
    assert set(first_column(DOCS / "subjects.md", "signature")) == set(Signature)
    assert first_column(DOCS / "how-it-works.md", "kernel fault") == list(KERNEL_FAULT_KINDS)
    assert first_column(DOCS / "reading-a-report.md", "severity") == list(SEVERITIES)
    assert first_column(DOCS / "reading-a-report.md", "convention") == list(conventions())
    assert first_column(DOCS / "corpus-and-fuzzing.md", "outcome") == [*STATUSES]


def test_the_names_of_qemu_are_those_that_the_world_declares() -> None:
    text = (DOCS / "subjects.md").read_text()
    blocks = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    listed = " ".join(blocks).split()
    assert sorted(listed) == sorted(read_names().declared)


@named(FOR_USERS)
def test_what_is_imported_in_an_example_is_there(document: Path) -> None:
    for token in tokens(document):
        if token.type == "fence" and token.info == "python":
            tree = ast.parse(token.content)
            imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
            exec(compile(ast.Module(imports, []), document.name, "exec"), {})


def test_the_example_of_the_core_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = (token for token in tokens(DOCS / "subjects.md") if token.info == "python")
    (expected,) = re.findall(r"print\(.*\)  # (.*)", example.content)
    exec(compile(example.content, "subjects.md", "exec"), {})
    assert capsys.readouterr().out == f"{expected}\n"
