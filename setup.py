"""Build of the two extension modules, and of the program that runs C subjects. Everything else about the package is in
pyproject.toml."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from glob import glob
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext  # Cython's own, once Cython is installed

# VFIO_VERIFY_TRACE=1 builds with line tracing, for coverage of the .pyx files (`tox -e cov`).
TRACE = os.environ.get("VFIO_VERIFY_TRACE") == "1"
# VFIO_VERIFY_SANITIZE=1 builds with AddressSanitizer and UndefinedBehaviorSanitizer (`tox -e asan`). Such modules
# load only where their runtime came first: tests/sanitized.py sees to that.
SANITIZE = os.environ.get("VFIO_VERIFY_SANITIZE") == "1"

PROGRAM = "_worker"


class BuildExt(build_ext):
    """Cython's build_ext with this project's directives, which says what to install when the build fails."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # A change of these settings alone must not leave the old C file in place.
        self.force = True
        self.cython_directives = {
            "language_level": 3,
            "embedsignature": False,
            "autotestdict": False,
            # What owns a mapping is not pickled, and the stubs need no Cython-made methods.
            "auto_pickle": False,
            "linetrace": TRACE,
        }

    def build_extension(self, ext: Extension) -> None:
        """The world is compiled once, for its module and for a program in which there is no Python."""
        world = [source for source in ext.sources if source.startswith("pyx/world/")]
        if world:
            ext.sources = [source for source in ext.sources if source not in world]
            compile_ = partial(
                self.compiler.compile,
                output_dir=self.build_temp,
                macros=ext.define_macros,
                include_dirs=ext.include_dirs,
                extra_postargs=ext.extra_compile_args,
            )
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = [made for (made,) in pool.map(compile_, ([source] for source in world))]
            ext.extra_objects = objects
            # A subject finds the world's names in it.
            self.compiler.link_executable(
                objects,
                PROGRAM,
                output_dir=self.build_temp,
                libraries=["dl", "m"],
                extra_postargs=[*ext.extra_link_args, "-pthread", "-rdynamic"],
            )
        super().build_extension(ext)

    def run(self) -> None:
        if sys.platform != "linux":
            sys.exit("vfio_verify runs on Linux only: VFIO and the address space it looks at are Linux's.")
        try:
            super().run()
        except Exception as error:  # setuptools has no common base for what a compiler's failure raises
            hint = what_to_install(self.compiler.compiler[0])
            if hint is None:
                raise
            sys.exit(f"error: {error}\n\n{hint}\n")
        # The text of which the core was compiled goes with it: that is what `vfio-verify prove core` is about.
        for path in ("pyx/_core.c", "pyx/core_calls.h", f"{self.build_temp}/{PROGRAM}"):
            shutil.copy(path, Path(self.get_ext_fullpath("vfio_verify._core")).parent)


def what_to_install(command: str) -> str | None:
    """The line that installs what this machine lacks, or None where the build failed for another reason."""
    python_h = Path(sysconfig.get_config_var("INCLUDEPY"), "Python.h")
    missing = []
    if shutil.which(command) is None:
        missing.append(f"a C compiler ({command} is not on the PATH)")
    if not Path("/usr/include/stdio.h").exists():
        missing.append("the C library's headers (/usr/include/stdio.h)")
    if not python_h.exists():
        missing.append(f"the headers of this Python ({python_h})")
    if not missing:
        return None
    return (
        f"vfio_verify is built from C sources, and this machine lacks {' and '.join(missing)}.\n"
        "Debian, Ubuntu:  apt-get install gcc libc6-dev python3-dev\n"
        "Fedora, RHEL:    dnf install gcc glibc-devel python3-devel"
    )


def digest_of_sources() -> str:
    """What the modules are built from, whatever the compiler makes of it; Cython's output is none of it."""
    digest = hashlib.sha256()
    for path in sorted(Path(path) for path in glob("pyx/**/*.[chp]*", recursive=True)):
        if not path.name.startswith("_") or path.suffix == ".pyx":
            digest.update(f"{path.as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


macros = [("_GNU_SOURCE", "1")]
if TRACE:
    # Cython 3.3 would report to sys.monitoring, which Python 3.11's coverage does not use.
    macros += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]

# Frame pointers: pyx/world/base/where.c follows them to the line of a subject that made a call.
flags = ["-std=gnu11", "-O2", "-g", "-Wall", "-fno-omit-frame-pointer"]
linking: list[str] = []
if SANITIZE:
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    # GCC's two runtimes share the symbol that takes log_path, so that of the second would write to standard error,
    # which a worker does not have. Each module gets a second one of its own, which nobody else sees.
    linking = [*sanitizers, "-static-libubsan", "-Wl,--exclude-libs,libubsan.a"]
    # After Python's own flags and ours: of two -O the last one holds, and a fortified memcpy() is not looked into.
    flags += [*sanitizers, "-fno-omit-frame-pointer", "-O1", "-U_FORTIFY_SOURCE"]

common = {"define_macros": macros, "extra_compile_args": flags, "extra_link_args": linking}
extensions = [
    Extension("vfio_verify._core", ["pyx/_core.pyx"], include_dirs=["pyx"], **common),
    Extension(
        "vfio_verify._world",
        ["pyx/_world.pyx", *sorted(glob("pyx/world/**/*.c", recursive=True))],
        include_dirs=["pyx", "pyx/world", "vfio_verify/include"],
        **{
            **common,
            "define_macros": [*macros, ("VV_SOURCES", f'"{digest_of_sources()}"')],
            # A subject sees the names that are meant for it, and of these files each other's are called directly.
            "extra_compile_args": [*flags, "-fvisibility=hidden"],
        },
    ),
]

# A build directory that is kept would put modules since removed, and objects of a traced build,
# into the next wheel.
with tempfile.TemporaryDirectory(prefix="vfio-verify-build-") as scratch:
    setup(
        packages=[*find_packages(include=["vfio_verify", "vfio_verify.*"]), "vfio_verify.specs"],
        package_dir={"vfio_verify.specs": "specs"},
        ext_modules=extensions,
        cmdclass={"build_ext": BuildExt},
        options={"build": {"build_base": scratch}},
    )
