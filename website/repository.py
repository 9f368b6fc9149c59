"""Files of the repository that pages link to, brought into the site: runs of benchmarks, examples, tests.

On the pages as they lie in the repository such links lead out of ``docs/``. The site has what they lead to in its
folder ``repository/``: Markdown as pages, folders as lists of their files, source as a page with its text, the rest as
it is.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["PAGES", "ROOT", "anchors", "as_page", "in_site", "linked", "rewritten", "targets"]

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = PurePosixPath("docs")

# [text](target#anchor), but for those of code, and for images as for links.
_LINK: Final = re.compile(r"(?<=\])\(([^)\s]+?)(#[^)\s]*)?\)")
_CODE: Final = re.compile(r"(^```.*?^```|`[^`\n]+`)", flags=re.DOTALL | re.MULTILINE)

# Of such a file the text is shown; the language is that by which it is coloured.
LANGUAGES: Final[Mapping[str, str]] = {
    ".py": "python",
    ".toml": "toml",
    ".yml": "yaml",
    ".yaml": "yaml",
    ".sh": "sh",
    ".cfg": "ini",
}
# Search would find them before the pages that are meant to be read.
NOT_SEARCHED: Final = "---\nsearch:\n  exclude: true\n---\n\n"


def linked(page: str, place: PurePosixPath) -> set[PurePosixPath]:
    """Return what *page*, which lies at *place* in the repository, links to in the repository and out of ``docs/``."""
    found: set[PurePosixPath] = set()
    _each_link(page, place, lambda target, _: found.add(target))
    return found


def rewritten(page: str, place: PurePosixPath) -> str:
    """Return *page* with its links out of ``docs/`` leading to where the site has them."""
    here = in_site(place).parent

    def renamed(target: PurePosixPath, anchor: str) -> str:
        return f"({posixpath.relpath(in_site(target), here)}{anchor})"

    return _each_link(page, place, renamed)


def targets(page: str) -> list[tuple[str, str]]:
    """Return the files that *page* links to, as it names them, each with the anchor in it, if there is one."""
    parts = (part for part in _CODE.split(page) if not part.startswith("`"))
    links = [(found[1], (found[2] or "")[1:]) for part in parts for found in _LINK.finditer(part)]
    return [(target, anchor) for target, anchor in links if not _is_elsewhere(target)]


def anchors(page: str) -> set[str]:
    """Return the anchors that *page* has by its headings, where the code is hosted."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def _is_elsewhere(target: str) -> bool:
    return "://" in target or target.startswith(("#", "mailto:"))


def _each_link(page: str, place: PurePosixPath, change: Callable[[PurePosixPath, str], str | None]) -> str:
    """Call *change* with each link that leads to a file in the repository; return *page* with what it says."""

    def changed(found: re.Match[str]) -> str:
        if _is_elsewhere(found[1]):
            return found[0]
        target = PurePosixPath(posixpath.normpath(place.parent / found[1]))
        is_page = PAGES in target.parents and PAGES in place.parents
        if is_page or ".." in target.parts or not (ROOT / target).exists():
            return found[0]  # one that leads nowhere is left to MkDocs, which says so
        return change(target, found[2] or "") or found[0]

    parts = _CODE.split(page)
    return "".join(part if part.startswith("`") else _LINK.sub(changed, part) for part in parts)


def in_site(place: PurePosixPath) -> PurePosixPath:
    """Return where the site has, as a source, what lies at *place* in the repository."""
    if PAGES in place.parents:
        return place.relative_to(PAGES)
    inside = PurePosixPath("repository") / place
    if (ROOT / place).is_dir():
        return inside / "index.md"
    return inside.with_name(f"{inside.name}.md") if place.suffix in LANGUAGES else inside


def as_page(place: PurePosixPath) -> str | None:
    """Return what lies at *place* as a page in Markdown; None for a file that is handed out as it is."""
    path = ROOT / place
    if path.is_dir():
        entries = sorted(
            entry for entry in path.iterdir() if not entry.name.startswith((".", "__")) and entry.is_file()
        )
        names = "\n".join(f"- {entry.name}" for entry in entries)
        return f"{NOT_SEARCHED}# {place}\n\nThe repository has here:\n\n{names}\n"
    if place.suffix == ".md":
        return NOT_SEARCHED + rewritten(path.read_text(), place)
    if language := LANGUAGES.get(place.suffix):
        return f"{NOT_SEARCHED}# {place}\n\n```{language}\n{path.read_text()}```\n"
    return None
