"""Under every setting both programs write the same dataset, but for pixels and for what ``differences.py`` lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from compat.aspects import ASPECTS, kind, views
from compat.datasets import OUR_COLUMNS
from compat.differences import EXIF, KEPT, KINDS, OUTCOMES, found
from compat.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from compat.tools import Pair

    Both = Callable[[str], Pair]
    Original = Callable[[str], bytes | None]

every_setting = pytest.mark.parametrize("setting", SETTINGS)
_WITH_ROWS: Final = [name for name in SETTINGS if name != "output-dummy"]


@every_setting
def test_both_end_well(setting: str, both: Both) -> None:
    """Words that img2dataset takes are taken."""
    pair = both(setting)

    assert pair.theirs.status == 0, pair.theirs.said
    assert pair.ours.status == 0, pair.ours.said


@every_setting
@pytest.mark.parametrize("aspect", ASPECTS)
def test_both_write_the_same(setting: str, aspect: str, both: Both, original: Original) -> None:
    """The datasets are the same in this aspect."""
    theirs, ours = views(both(setting), setting, original)

    assert ASPECTS[aspect](ours) == ASPECTS[aspect](theirs)


@pytest.mark.parametrize("setting", _WITH_ROWS)
def test_our_own_columns_stand_behind_img2datasets(setting: str, both: Both) -> None:
    """Readers that take columns by place find them."""
    columns = both(setting).ours.dataset.columns

    assert [name for name, _ in columns[-len(OUR_COLUMNS) :]] == list(OUR_COLUMNS)


@pytest.mark.parametrize("setting", _WITH_ROWS)
def test_rows_that_are_meant_to_differ_differ_as_listed(setting: str, both: Both) -> None:
    """What ``differences.py`` says of an outcome is what happens."""
    pair = both(setting)
    rows = {row["url"]: row for row in pair.ours.dataset.rows.values()}

    for row in pair.theirs.dataset.rows.values():
        if difference := found(OUTCOMES, setting, row["url"]):
            other = rows[row["url"]]
            assert (row["status"], row["error_message"]) == difference.theirs
            assert (other["status"], other["error_message"]) == difference.ours


@pytest.mark.parametrize("setting", ["png", "skip-reencode-jpg", "skip-reencode-png", "skip-reencode-bigger"])
def test_images_that_are_meant_to_differ_differ_as_listed(setting: str, both: Both, original: Original) -> None:
    """What ``differences.py`` says of the mode of an image, and of whether it is kept as it came, is what happens."""
    theirs, ours = views(both(setting), setting, original)

    for key, url in theirs.urls.items():
        pair = (theirs.dataset.images.get(key), ours.dataset.images.get(key))
        if difference := found(KEPT, setting, url):
            assert [content == original(url or "") for content in pair] == [difference.theirs, difference.ours]
        elif setting == "png" and (difference := found(KINDS, setting, url)):
            assert [kind(content or b"")[1] for content in pair] == [difference.theirs, difference.ours]


@pytest.mark.parametrize("setting", ["output-parquet", "no-reencoding"])
def test_exif_is_the_same(setting: str, both: Both) -> None:
    """The same tags, under the same names, as the same texts."""
    pair = both(setting)
    theirs, ours = ({row["url"]: row["exif"] for row in run.dataset.rows.values()} for run in (pair.theirs, pair.ours))
    alike = [url for url in theirs if found(EXIF, setting, url) is None and found(OUTCOMES, setting, url) is None]

    assert {url: ours[url] for url in alike} == {url: theirs[url] for url in alike}
