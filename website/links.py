"""See that the pages which are read where the code is hosted link to files that are there: ``python website/links.py``.

MkDocs looks at those of the site. This looks at all Markdown of the repository as it lies there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import PurePosixPath

import repository

__all__ = ["broken", "main"]


def broken(place: PurePosixPath) -> list[str]:
    """Return the links of the page at *place* in the repository that lead nowhere."""
    lost = []
    for target, anchor in repository.targets((repository.ROOT / place).read_text()):
        path = repository.ROOT / place.parent / target
        if not path.exists() or (anchor and anchor not in repository.anchors(path.read_text())):
            lost.append(f"{target}#{anchor}" if anchor else target)
    return lost


def main() -> int:
    """Say which links lead nowhere; return how many."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    pages = subprocess.run(listed, check=True, capture_output=True, text=True, cwd=repository.ROOT).stdout.split()  # noqa: S603  the project's own
    found = [(page, target) for page in pages for target in broken(PurePosixPath(page))]
    for page, target in found:
        sys.stdout.write(f"{page}: {target} is not there\n")
    sys.stdout.write(f"{len(pages)} pages looked at, {len(found)} broken links\n")
    return len(found)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
