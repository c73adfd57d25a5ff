"""The door of the command line: `xmodal ...`, `python -m xmodal_cli ...` and torchrun all enter here."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line with the process's arguments and exit with its code."""
    from xmodal_cli.cli.app import INTERRUPTED, run

    code = run(sys.argv[1:])
    if code == INTERRUPTED:
        # Python would end itself by SIGINT where Ctrl-C hit it inside exec(), as it often does in imports.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
