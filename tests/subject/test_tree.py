"""A source tree beside a subject: it supplies what a patch leaves out, and what other files define."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from vfio_verify.errors import InputError
from vfio_verify.subject import compiler
from vfio_verify.subject.source import Given, Source, read_source
from vfio_verify.subject.subject import open_subject

HEAD = "bool subject(struct iovec *iov, unsigned int n, void **addr, size_t total, Error **errp)"
FILES = {
    "hw/vfio/map.c": f"""#include "qemu/osdep.h"
#include "own.h"

static int first(void)
{{
    return 1;
}}

{HEAD}
{{
    OwnState state = {{ .limit = OWN_LIMIT }};

    *addr = NULL;
    if (!n) {{
        error_setg(errp, "no entries");
        return false;
    }}
    if (!own_check(iov, n, total) || first() > state.limit) {{
        error_setg(errp, "wrong size");
        return false;
    }}
    error_setg(errp, "not yet %d", QLIST_EMPTY(&own_list));
    return false;
}}

int last(void)
{{
    return 2;
}}
""",
    "include/own.h": """#ifndef OWN_H
#define OWN_H
#include "deep/types.h"
#define OWN_LIMIT 10
typedef struct OwnState {
    OwnMode mode;
    int limit;
    QLIST_ENTRY(OwnState) next;
} OwnState;
typedef QLIST_HEAD(, OwnState) OwnList;
extern OwnList own_list;
bool own_check(struct iovec *iov, unsigned int n, size_t total);
#endif
""",
    "include/deep/types.h": "typedef enum OwnMode { OWN_A, OWN_B } OwnMode;\nint deeper(size_t size);\n",
    "hw/core/own.c": """#include "own.h"
OwnList own_list;
static int used;
bool own_check(struct iovec *iov, unsigned int n, size_t total)
{
    used++;
    return deeper(iov_size(iov, n)) == OWN_B && iov_size(iov, n) == total;
}
""",
    "lib/deeper.c": "int deeper(size_t size)\n{\n    return size ? 1 : 0;\n}\n",
    "lib/error.h": "#define error_setg(errp, ...) broken(errp)\n",
    "docs/own.txt": "int deeper(size_t size) { this is no C }\n",
}


def git_in(directory: Path):
    def git(*arguments: str) -> str:
        names = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "core.hooksPath=/dev/null")
        command = ["git", "-C", str(directory), *names, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    return git


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git = git_in(root)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    return root


def follow_up(tree: Path, before: str = '"not yet %d"', after: str = '"never %d"', file: str = "hw/vfio/map.c") -> str:
    """A patch that changes one line, and the tree without it."""
    path = tree / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    diff = git_in(tree)("diff")
    path.write_text(text)
    return diff


def read(tmp_path: Path, diff: str, tree: object, **given: object) -> Source:
    path = tmp_path / "follow-up.patch"
    path.write_text(diff)
    return read_source(str(path), "subject", given=Given(str(tree), **given))  # type: ignore[arg-type]


@pytest.fixture(params=["directory", "commit"])
def named(request, tree):
    """A tree as the user names it."""
    if request.param == "directory":
        return str(tree)
    for name in FILES:  # the work tree is not looked at
        (tree / name).unlink()
    return f"{tree}@HEAD"


def test_the_tree_supplies_what_a_follow_up_patch_leaves_out(tree, tmp_path):
    diff = follow_up(tree)
    (tmp_path / "x.patch").write_text(diff)
    with pytest.raises(InputError, match=r"only a part of subject\(\); give it with --tree DIR"):
        read_source(str(tmp_path / "x.patch"), "subject")
    source = read(tmp_path, diff, tree)
    assert '"never %d"' in source.unit
    assert (source.target.item.place, source.notes) == ("hw/vfio/map.c:9", ())
    assert (tree / "hw/vfio/map.c").read_text() == FILES["hw/vfio/map.c"]


def test_names_are_found_in_the_tree_as_a_linker_would(tree, tmp_path):
    diff = follow_up(tree)
    for given in (str(tree), f"{tree}@HEAD"):
        source = read(tmp_path, diff, given)
        assert set(source.taken) >= {
            "OWN_LIMIT from include/own.h:4",
            "OwnState, struct OwnState from include/own.h:5",
            "OWN_A, OWN_B, OwnMode, struct OwnMode from include/deep/types.h:1",
            "own_list from hw/core/own.c:2",
            "used from hw/core/own.c:3",
            "own_check from hw/core/own.c:4",
            "deeper from lib/deeper.c:1",
        }
        assert not any("first" in line or "error_setg" in line for line in source.taken)


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_a_follow_up_patch_with_its_tree_can_be_run(tree, tmp_path):
    path = tmp_path / "x.patch"
    path.write_text(follow_up(tree))
    with open_subject(str(path), "subject", given=Given(f"{tree}@HEAD")) as subject:
        assert subject.arguments == ("--tree", f"{tree}@HEAD")
        assert subject.place == "hw/vfio/map.c:9"
        assert len(subject.taken) >= 7


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_a_name_that_only_the_compiler_misses_is_looked_for_as_well(tree, tmp_path):
    """A word of the system's headers is not looked for until it is missed; a function that is declared is."""
    path = tree / "hw/vfio/map.c"
    path.write_text(path.read_text().replace("first() >", "first() + offset(n) + quot(n) >"))
    (tree / "include/deep/types.h").write_text(
        "int offset(int n);\n#define quot(x) ((x) + 1)\n" + FILES["include/deep/types.h"]
    )
    (tree / "lib/offset.c").write_text("int offset(int n)\n{\n    return n;\n}\n")
    assert {"offset", "quot", "uint64_t", "memcpy"} <= compiler.system_words(tmp_path)
    with open_subject("hw/vfio/map.c", "subject", given=Given(str(tree))) as subject:
        assert {"offset from lib/offset.c:1", "quot from include/deep/types.h:2"} <= set(subject.taken)


def test_a_file_of_the_tree_can_be_the_subject(tree):
    for given, path in (
        (str(tree), "hw/vfio/map.c"),
        (f"{tree}@HEAD", "hw/vfio/map.c"),
        (str(tree), str(tree / "hw/vfio/map.c")),
    ):
        source = read_source(path, "subject", given=Given(given))
        assert "own_check from hw/core/own.c:4" in source.taken


def test_offset_and_fuzz_are_told(tree, tmp_path):
    diff = follow_up(tree)
    path = tree / "hw/vfio/map.c"
    path.write_text("/* one */\n/* two */\n" + FILES["hw/vfio/map.c"])
    source = read(tmp_path, diff, tree)
    assert source.notes == ("hw/vfio/map.c: hunk 1 applied with offset 2.",)
    assert source.target.item.line == 11
    path.write_text(path.read_text().replace('"wrong size"', '"odd size"'))
    assert read(tmp_path, diff, tree).notes == ("hw/vfio/map.c: hunk 1 applied with offset 2, fuzz 1.",)
    path.write_text(
        path.read_text().replace("return false;\n    }\n    error_setg", "return 0;\n    }\n    error_setg")
    )
    source = read(tmp_path, diff, tree)
    assert source.notes == ("hw/vfio/map.c: hunk 1 applied with offset 2, fuzz 2.",)
    assert "return 0;" in source.unit
    assert '"never %d"' in source.unit
    path.write_text(path.read_text().replace('"not yet %d"', '"another %d"'))
    with pytest.raises(InputError, match=r"map.c:\d+: this hunk does not apply to the file in .*--tree DIR@COMMIT"):
        read(tmp_path, diff, tree)


def test_many_moved_hunks_are_told_in_one_note_and_too_many_are_refused(tree, tmp_path):
    def numbered(count: int, prefix: str = "") -> str:
        return prefix + "".join(f"int v{i};\n" for i in range(count)) + FILES["hw/vfio/map.c"]

    def hunks(count: int) -> str:
        every = (
            f"@@ -{9 * i + 1},2 +{9 * i + 1},2 @@\n int v{9 * i};\n-int v{9 * i + 1};\n+int w{i};\n"
            for i in range(count)
        )
        return "--- a/hw/vfio/map.c\n+++ b/hw/vfio/map.c\n" + "".join(every)

    path = tree / "hw/vfio/map.c"
    path.write_text(numbered(200, "/* moved */\n"))
    source = read(tmp_path, hunks(20), tree)
    assert source.notes == ("hw/vfio/map.c: hunks 1, 2, 3, 4, 5, 6, 7, 8 and others applied with offset 1.",)
    path.write_text(numbered(100_000))
    with pytest.raises(InputError, match=r"map.c has 100,0\d\d lines, too many for a patch of 3,000 hunks"):
        read(tmp_path, hunks(3000), tree)


def test_a_patch_that_the_tree_already_has_is_not_applied_again(tree, tmp_path):
    diff = follow_up(tree)
    path = tree / "hw/vfio/map.c"
    path.write_text(path.read_text().replace('"not yet %d"', '"never %d"'))
    source = read(tmp_path, "commit 0123456789abcdef\n\n    A title\n\n" + diff, tree)
    assert '"never %d"' in source.unit
    assert source.title == "A title"
    (note,) = source.notes
    assert note.startswith("hw/vfio/map.c is in ")


def test_a_file_that_the_patch_renames_is_found_by_its_old_name(tree, tmp_path):
    git = git_in(tree)
    git("mv", "hw/vfio/map.c", "hw/vfio/mapped.c")
    path = tree / "hw/vfio/mapped.c"
    path.write_text(path.read_text().replace("not yet", "never"))
    for prefix in ("diff.noprefix=true", "diff.mnemonicPrefix=true", "core.quotePath=true"):
        diff = git("-c", prefix, "diff", "-M", "HEAD")
        source = read(tmp_path, diff, f"{tree}@HEAD")
        assert (source.target.item.place, '"never %d"' in source.unit) == ("hw/vfio/mapped.c:9", True), prefix


def test_git_applies_the_same(tree, tmp_path):
    """Lines are moved about; where git applies the patch, the result is the same."""
    diff = follow_up(tree)
    path = tree / "hw/vfio/map.c"
    patch = tmp_path / "p.patch"
    patch.write_text(diff)
    for text in (
        FILES["hw/vfio/map.c"].replace("int last", "/* a */\n/* b */\nint last"),
        FILES["hw/vfio/map.c"].replace("static int first", "\n" * 700 + "static int first"),
        FILES["hw/vfio/map.c"].replace('#include "qemu/osdep.h"\n', ""),
    ):
        path.write_text(text)
        source = read(tmp_path, diff, tree)
        git_in(tree)("apply", str(patch))
        files = {piece.file: piece.text for piece in source.text.pieces}
        assert files["hw/vfio/map.c"] == path.read_text()


def test_two_definitions_are_told_and_the_one_beside_is_taken(tree, tmp_path):
    (tree / "stubs").mkdir()
    (tree / "stubs/own.c").write_text(
        "bool own_check(struct iovec *i, unsigned int n, size_t t)\n{\n    return 1;\n}\n"
    )
    source = read(tmp_path, follow_up(tree), tree)
    assert "own_check from hw/core/own.c:4" in source.taken
    assert any(
        "defines own_check more than once; hw/core/own.c is taken, not stubs/own.c" in note for note in source.notes
    )


def test_of_two_headers_the_included_one_is_taken(tree, tmp_path):
    (tree / "aaa").mkdir()
    (tree / "aaa/other.h").write_text("#define OWN_LIMIT 99\n")
    source = read(tmp_path, follow_up(tree), tree)
    assert "OWN_LIMIT from include/own.h:4" in source.taken
    assert any("defines OWN_LIMIT more than once; include/own.h is taken" in note for note in source.notes)


def test_a_struct_and_its_name_may_lie_in_two_headers(tree, tmp_path):
    """A header that only names structs, as QEMU has one; a struct that is only pointed to is not taken."""
    diff = follow_up(tree)
    for n in (1, 2):
        (tree / f"include/names{n}.h").write_text("typedef struct OwnState OwnState;\ntypedef struct Far Far;\n")
    (tree / "lib/far.h").write_text("struct Far { int never; };\n")
    text = FILES["include/own.h"].replace("typedef struct OwnState {", "struct OwnState {\n    Far *far;")
    (tree / "include/own.h").write_text(text.replace("} OwnState;", "};"))
    source = read(tmp_path, diff, tree)
    assert {"OwnState from include/names1.h:1", "struct OwnState from include/own.h:5"} <= set(source.taken)
    assert not any("struct Far" in line for line in source.taken)
    assert source.notes == ()
    with_far = source.with_names({"Far"})
    assert with_far is not None
    assert "struct Far from lib/far.h:1" in with_far.taken
    assert with_far.with_names({"Far", "nowhere_at_all"}) is None


def test_what_the_world_declares_stays_the_worlds(tree, tmp_path):
    source = read(tmp_path, follow_up(tree), tree)
    assert "broken(errp)" not in source.unit


def test_a_header_that_a_patch_changes_replaces_the_world_only_where_it_is_changed(tree, tmp_path):
    path = tree / "include/own.h"
    path.write_text(path.read_text() + "#define QEMU_IS_ALIGNED(n, m) broken(n)\n\n\n\n#define GiB old\n")
    git_in(tree)("add", ".")
    git_in(tree)("commit", "-qm", "a header")
    source_file = tree / "hw/vfio/map.c"
    source_file.write_text(source_file.read_text().replace("if (!n)", "if (!n || !QEMU_IS_ALIGNED(total, GiB))"))
    source = read(tmp_path, follow_up(tree, "GiB old", "GiB new", "include/own.h"), tree)
    assert "#define GiB new" in source.unit
    assert "broken(n)" not in source.unit


# ---- trees and patches that are not to be trusted ------------------------------------------------------------


@pytest.mark.parametrize("path", ["../../x.c", "/etc/x.c", "a/../../x.c"])
def test_a_patch_of_a_path_out_of_the_tree_is_refused(tmp_path, named, path):
    (tmp_path / "x.c").write_text(f"{HEAD}\n{{\n    return false;\n}}\n")
    diff = f"--- a/{path}\n+++ b/{path}\n@@ -1,4 +1,4 @@\n {HEAD}\n {{\n-    return false;\n+    return true;\n }}\n"
    with pytest.raises(InputError, match="is a path out of the tree, which is refused"):
        read(tmp_path, diff, named)


def test_links_out_of_a_tree_are_refused(tree, tmp_path):
    secret = tmp_path / "secret.c"
    secret.write_text(FILES["hw/vfio/map.c"])
    diff = follow_up(tree)
    for name in ("hw/vfio/map.c", "hw/core/own.c"):
        (tree / name).unlink()
        (tree / name).symlink_to(secret)
    with pytest.raises(InputError, match=r"hw/vfio/map.c is a link out of the tree, which is refused"):
        read(tmp_path, diff, tree)
    (tree / "hw/vfio/map.c").unlink()
    (tree / "hw/vfio/map.c").write_text(FILES["hw/vfio/map.c"])
    assert not any("own_check" in line for line in read(tmp_path, diff, tree).taken)
    git_in(tree)("add", ".")
    git_in(tree)("commit", "-qm", "a link")
    assert not any("own_check" in line for line in read(tmp_path, diff, f"{tree}@HEAD").taken)


def test_files_of_gigabytes_pipes_and_loops_are_passed_over(tree, tmp_path):
    with (tree / "hw/huge.c").open("wb") as file:
        file.truncate(3 << 30)
    os.mkfifo(tree / "hw/pipe.c")
    (tree / "hw/loop").symlink_to(tree)
    (tree / "hw/self.c").symlink_to("self.c")
    begun = time.monotonic()
    source = read(tmp_path, follow_up(tree), tree)
    assert "deeper from lib/deeper.c:1" in source.taken
    assert time.monotonic() - begun < 20
    diff = "--- a/hw/huge.c\n+++ b/hw/huge.c\n@@ -1,1 +1,1 @@\n-a\n+b\n"
    with pytest.raises(InputError, match=r"hw/huge.c is larger than 16 MiB"):
        read(tmp_path, diff, tree)
    diff = "--- a/hw/self.c\n+++ b/hw/self.c\n@@ -1,1 +1,1 @@\n-a\n+b\n"
    with pytest.raises(InputError, match=r"does not define subject"):
        read(tmp_path, diff, tree)
    (tree / "loop").symlink_to("loop")
    given = Given(tree=str(tree), directories=(str(tree / "loop"),))
    assert "deeper from lib/deeper.c:1" in read_source(str(tree / "hw/vfio/map.c"), given=given).taken


def test_nothing_that_a_repository_configures_is_run(tree, tmp_path):
    """Hooks, filters, text converters, a monitor of files, a pager, and a remote to fetch from."""
    seen = tmp_path / "seen"
    run = f"touch {seen}"
    diff = follow_up(tree)
    git = git_in(tree)
    (tree / ".gitattributes").write_text("*.c diff=evil filter=evil\n")
    git("add", ".gitattributes")
    git("commit", "-qm", "attributes")
    for name in (
        "core.fsmonitor",
        "core.pager",
        "pager.grep",
        "diff.evil.textconv",
        "filter.evil.smudge",
        "diff.external",
    ):
        git("config", name, run)
    for name, value in (("remote.origin.url", f"ext::sh -c '{run}'"), ("remote.origin.promisor", "true")):
        git("config", name, value)
    git("config", "extensions.partialClone", "origin")
    git("config", "protocol.ext.allow", "always")
    hook = tree / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\n{run}\n")
    hook.chmod(0o755)
    blob = git("rev-parse", "HEAD:lib/deeper.c").strip()
    (tree / ".git/objects" / blob[:2] / blob[2:]).unlink()
    seen.unlink(missing_ok=True)
    source = read(tmp_path, diff, f"{tree}@HEAD")
    assert '"never %d"' in source.unit
    assert not seen.exists()


@pytest.mark.parametrize(("given", "said"), [("nowhere", "no such directory"), ("{}@no-such", "has no commit no-such")])
def test_a_tree_that_is_not_there_is_refused(tree, tmp_path, given, said):
    with pytest.raises(InputError, match=said):
        read(tmp_path, follow_up(tree), given.format(tree))


def test_a_directory_that_is_no_repository_is_refused_for_a_commit(tmp_path):
    (tmp_path / "plain").mkdir()
    with pytest.raises(InputError, match="is no git repository, or has no commit --output=x"):
        read(tmp_path, "", f"{tmp_path / 'plain'}@--output=x")


def test_a_directory_with_a_sign_in_its_name_is_a_directory(tree, tmp_path):
    named = tmp_path / "tree@v1"
    tree.rename(named)
    assert '"never %d"' in read(tmp_path, follow_up(named), named).unit


# ---- how the tree compiles it -------------------------------------------------------------------------------


def commands_for(tree: Path, arguments: str) -> None:
    entry = {
        "directory": str(tree / "build"),
        "command": f"cc {arguments} -c ../hw/vfio/map.c",
        "file": "../hw/vfio/map.c",
    }
    other = {"directory": str(tree / "build"), "arguments": ["cc", "-DNOT_THIS"], "file": "../hw/core/own.c"}
    (tree / "build").mkdir()
    (tree / "build/compile_commands.json").write_text(json.dumps([other, entry]))


def test_the_trees_own_compile_commands_are_used(tree, tmp_path):
    (tree / "special").mkdir()
    (tree / "aaa").mkdir()
    (tree / "include/own.h").rename(tree / "special/own.h")
    (tree / "aaa/own.h").write_text(FILES["include/own.h"].replace("OWN_LIMIT 10", "OWN_LIMIT 99"))
    commands_for(tree, "-I../special -I/etc -DOWN_FEATURE='a b' -D OTHER=1 -D_FORTIFY_SOURCE=2")
    source = read(tmp_path, follow_up(tree), tree, defines=("OTHER=2",))
    assert source.defines == ("OWN_FEATURE=a b", "OTHER=1", "OTHER=2")
    assert "OWN_LIMIT from special/own.h:4" in source.taken


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"directory": "/", "file": "x", "command": "\'"}]', "[" * 99999])
def test_compile_commands_that_cannot_be_read_are_passed_over(tree, tmp_path, text):
    (tree / "compile_commands.json").write_text(text)
    assert read(tmp_path, follow_up(tree), tree).defines == ()


def test_directories_of_headers_are_searched(tmp_path):
    (tmp_path / "headers/sub").mkdir(parents=True)
    (tmp_path / "headers/own.h").write_text('#include "sub/deep.h"\n')
    (tmp_path / "headers/sub/deep.h").write_text('#include "beside.h"\n#define DEEP BESIDE\n')
    (tmp_path / "headers/sub/beside.h").write_text("#define BESIDE 77\n")
    text = f'#include "own.h"\n#include <own.h>\n{HEAD}\n{{\n    return n > DEEP;\n}}\n'
    (tmp_path / "src").mkdir()
    (tmp_path / "src/x.c").write_text(text)
    lines = text.splitlines()
    diff = f"--- /dev/null\n+++ b/src/x.c\n@@ -0,0 +1,{len(lines)} @@\n" + "".join(f"+{line}\n" for line in lines)
    (tmp_path / "x.patch").write_text(diff)
    for name in ("src/x.c", "x.patch"):
        given = Given(directories=(str(tmp_path / "headers"),))
        unit = read_source(str(tmp_path / name), "subject", given=given).unit
        assert "#define DEEP BESIDE" in unit
        assert "#define BESIDE 77" in unit
    with pytest.raises(InputError, match="-I nowhere: no such directory"):
        read_source(str(tmp_path / "src/x.c"), "subject", given=Given(directories=("nowhere",)))
    (tmp_path / "headers/own.h").unlink()
    (tmp_path / "headers/own.h").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match=r'src/x.c:1: #include "own.h" is refused: it is not a header'):
        read_source(str(tmp_path / "src/x.c"), "subject", given=given)


KCONFIG = """diff --git a/hw/vfio/Kconfig b/hw/vfio/Kconfig
--- a/hw/vfio/Kconfig
+++ b/hw/vfio/Kconfig
@@ -1,2 +1,10 @@
 config VFIO
     bool
+config OWN_MAP
+    bool "Map it"
+    default y if VFIO
+    depends on LINUX
+
+config OWN_OFF
+    bool
+    default n
"""


def test_what_the_user_defines_is_not_looked_for_in_the_tree(tree, tmp_path):
    (tree / "lib/odd.h").write_text("#define OWN_ODD 5\n")
    path = tree / "hw/vfio/map.c"
    path.write_text(path.read_text().replace("if (!n)", "if (!n || n == OWN_ODD)"))
    git_in(tree)("commit", "-qam", "odd")
    diff = follow_up(tree)
    assert "OWN_ODD from lib/odd.h:1" in read(tmp_path, diff, tree).taken
    source = read(tmp_path, diff, tree, defines=("OWN_ODD=99",))
    assert not any(line.startswith("OWN_ODD") for line in source.taken)


def test_a_symbol_that_the_patch_turns_on_is_offered(tmp_path):
    lines = [
        HEAD,
        "{",
        "#ifdef CONFIG_OWN_MAP",
        "    n++;",
        "#endif",
        "#ifdef CONFIG_OWN_OFF",
        "    n--;",
        "#endif",
        "}",
    ]
    diff = f"--- /dev/null\n+++ b/x.c\n@@ -0,0 +1,{len(lines)} @@\n" + "".join(f"+{line}\n" for line in lines)
    (tmp_path / "x.patch").write_text(KCONFIG + diff)
    source = read_source(str(tmp_path / "x.patch"), "subject")
    (note,) = source.notes
    assert note.startswith("hw/vfio/Kconfig sets CONFIG_OWN_MAP by default in this patch")
    given = Given(defines=("CONFIG_OWN_MAP",))
    assert read_source(str(tmp_path / "x.patch"), "subject", given=given).notes == ()
    (tmp_path / "y.patch").write_text(KCONFIG + diff.replace("#ifdef CONFIG_OWN_MAP", "#if 1"))
    assert read_source(str(tmp_path / "y.patch"), "subject").notes == ()


# ---- other languages ------------------------------------------------------------------------------------------

OTHERS = {
    "x.rs": ("x", "Rust"),
    "rust": ("use std::ffi;\n\npub unsafe fn map(iov: &[u8]) -> bool {\n    let n = 1;\n    true\n}\n", "Rust"),
    "x.cc": ("int f() { return 1; }\n", "C++"),
    "with a vector": ("#include <vector>\nint f(void) { return 1; }\n", "C++"),
    "namespace": ("namespace vfio {\nint f(void) { return 1; }\n}\n", "C++"),
    "class": ("class Map : public Base {\n    int n;\n};\n", "C++"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_language_is_named_and_not_parsed_as_c(tmp_path, name):
    text, language = OTHERS[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=f"is {re.escape(language)}, and only C is read"):
        read_source(str(tmp_path / name))


def test_a_patch_of_another_language_names_it(tmp_path):
    (tmp_path / "x.patch").write_text("--- /dev/null\n+++ b/src/map.rs\n@@ -0,0 +1,1 @@\n+fn f() {}\n")
    with pytest.raises(InputError, match=r"changes no C file \(files: src/map.rs is Rust\)"):
        read_source(str(tmp_path / "x.patch"))


def test_c_that_speaks_of_other_languages_is_c(tmp_path):
    text = "/* class Map { std::vector */\nextern int fn(int class);\nint template, namespace;\n"
    text += f"{HEAD}\n{{\n    return n;\n}}\n"
    (tmp_path / "x.c").write_text(text)
    assert read_source(str(tmp_path / "x.c"), "subject").target.name == "subject"
