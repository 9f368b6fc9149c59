"""What MkDocs calls while it builds the site: pages made from the program, files of the repository, and a last look."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, InclusionLevel

import offline
import reference
import repository

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

__all__ = ["on_config", "on_files", "on_page_markdown", "on_post_build"]

# Below it in the navigation stand the pages of the commands.
COMMANDS: Final = "reference/commands.md"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give each command a place in the navigation."""
    pages = [{f"aimg2ds {name}": _page_of(name)} for name in reference.commands()]
    if not _put_behind(config.nav or [], COMMANDS, pages):
        raise PluginError(f"the navigation has no {COMMANDS}, below which the pages of the commands stand")
    return config


def _page_of(command: str) -> str:
    return f"reference/{command}.md"


def _put_behind(entries: list[Any], name: str, more: list[Any]) -> bool:
    """Put *more* behind the entry *name* of a navigation; return whether it is there."""
    for place, entry in enumerate(entries):
        if entry == name or (isinstance(entry, dict) and name in entry.values()):
            entries[place + 1 : place + 1] = more
            return True
        within = next(iter(entry.values())) if isinstance(entry, dict) else entry
        if isinstance(within, list) and _put_behind(within, name, more):
            return True
    return False


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the commands, and what pages link to in the repository."""
    for name in reference.commands():
        files.append(File.generated(config, _page_of(name), content=reference.command_page(name)))
    waiting = [(PurePosixPath("docs") / file.src_uri, file.content_string) for file in files.documentation_pages()]
    brought: set[PurePosixPath] = set()
    while waiting:
        place, page = waiting.pop()
        for target in repository.linked(page, place) - brought:
            brought.add(target)
            if repository.PAGES in target.parents:
                continue  # it is in the site as it is
            shown = repository.as_page(target)
            if shown is not None and target.suffix == ".md":
                waiting.append((target, (repository.ROOT / target).read_text()))
            files.append(_brought(config, target, shown))
    return files


def _brought(config: MkDocsConfig, target: PurePosixPath, page: str | None) -> File:
    uri, hidden = str(repository.in_site(target)), InclusionLevel.NOT_IN_NAV
    if page is None:
        return File.generated(config, uri, abs_src_path=str(repository.ROOT / target), inclusion=hidden)
    return File.generated(config, uri, content=page, inclusion=hidden)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:  # noqa: ANN401  as MkDocs calls it
    """Fill in what is made from the program, and have links into the repository lead into the site."""
    if page.file.generated_by:
        return markdown
    return repository.rewritten(reference.filled(markdown), PurePosixPath("docs") / page.file.src_uri)


def on_post_build(config: MkDocsConfig) -> None:
    """See that no page makes a browser ask any other server for anything.

    Raises:
        PluginError: one does.

    """
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix not in (".html", ".css", ".svg"):
            continue
        for address in offline.asked_elsewhere(path.read_text(errors="replace")):
            raise PluginError(f"{path.relative_to(config.site_dir)} makes a browser ask for {address}")
