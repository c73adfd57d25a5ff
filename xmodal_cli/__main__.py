"""The door of the command line: `xmodal ...`, `python -m xmodal_cli ...` and torchrun all enter here."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line with the process's arguments and exit with its code."""
    from xmodal_cli.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
