"""``python -m vfio_verify``."""

from vfio_verify.cli import main

if __name__ == "__main__":
    main()
