"""``python -m qsdk``: the same as the command ``qsdk``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; never returns."""
    try:
        from qsdk.cli.main import qsdk
    except KeyboardInterrupt:
        sys.exit(130)
    qsdk()


if __name__ == "__main__":
    main()
