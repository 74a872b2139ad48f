"""`python -m holdfast`, and the installed program `holdfast`."""

import sys


def main() -> int:
    from holdfast.surfaces.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
