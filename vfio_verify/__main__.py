"""``python -m vfio_verify``, and the console script: Ctrl-C ends it in order from the first import on."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Import the command line, and run it."""
    try:
        from vfio_verify.cli.main import main as run
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
