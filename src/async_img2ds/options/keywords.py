"""Flat keywords → the groups whose fields they are."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from async_img2ds.errors import OptionsError
from async_img2ds.recipes import RECIPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from async_img2ds.flags import Flag

__all__ = ["grouped"]


def grouped(
    keywords: Mapping[str, Any], groups: Mapping[str, type[Any]], flags: Mapping[str, tuple[Flag, ...]]
) -> dict[str, Any]:
    """Return the *groups* built from flat *keywords*, of those *flags* that each takes.

    What a recipe says that is named among them counts less than they do, and only as far as there are such options.

    Raises:
        OptionsError: there is no such option, or a value is not one that its option accepts.

    """
    known = {flag.name: flag for of_group in flags.values() for flag in of_group}
    for name in keywords:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise OptionsError(f"there is no option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    if "recipe" in known and (recipe := known["recipe"].accept(keywords.get("recipe"))):
        keywords = {**{name: value for name, value in RECIPES[str(recipe)].items() if name in known}, **keywords}
    if "url_list" in known and known["url_list"].required and "url_list" not in keywords:
        raise OptionsError("url_list is required: the file or folder that lists the URLs, or several")
    return {
        name: group(**{flag.name: keywords[flag.name] for flag in flags[name] if flag.name in keywords})
        for name, group in groups.items()
    }
