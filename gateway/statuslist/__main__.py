"""The child that checks or joins large lists, so that the gateway's own process does not."""

import os
import sys
from pathlib import Path

from gateway.errors import ParameterInvalid
from gateway.statuslist.archive import join
from gateway.statuslist.reader import ListFile


def main(words: list[str]) -> int:
    """`check FILE` or `join OLDER NEWER OUT`; 1 and why on stdout, if it is not as it must be."""
    os.nice(19)
    what, *paths = words
    try:
        if what == "check":
            ListFile.open(Path(paths[0])).check()
        else:
            join(*map(Path, paths))
    except ParameterInvalid as bad:
        sys.stdout.write(bad.detail)
        return 1
    except OSError as no:
        sys.stdout.write(f"状态名单读写失败：{no.strerror}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
