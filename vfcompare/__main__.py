"""`python -m vfcompare` is the command `vfcompare`, where scripts of this Python are not on the PATH."""

import sys

from vfcompare.main import main

if __name__ == "__main__":
    sys.exit(main())
