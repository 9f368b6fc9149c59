"""What people type and write for img2dataset works with the program's name changed, and no more."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

import pytest

from compat.aspects import ASPECTS, views
from compat.commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from compat.tools import Pair, Tools

    Original = Callable[[str], bytes | None]


@pytest.mark.parametrize("setting", COMMANDS)
def test_commands_do_the_same(setting: str, both: Callable[[str], Pair], original: Original) -> None:
    """Both end well, and the datasets are the same in every aspect."""
    pair = both(setting)

    assert pair.theirs.status == 0, pair.theirs.said
    assert pair.ours.status == 0, pair.ours.said
    assert_same(pair, setting, original)


REFUSED: Final = {
    "mode": "--resize_mode squeeze",
    "interpolation": "--upscale_interpolation soft",
    "format": "--encode_format gif",
    "png-quality": "--encode_format png",
    "output": "--output_format zip",
    "input": "--input_format xlsx",
    "hash": "--compute_hash crc32",
    "hashes-apart": """--input_format parquet --verify_hash '["md5","md5"]'""",
    "reserved-column": """--input_format parquet --save_additional_columns '["width"]'""",
    "distributor": "--distributor slurm",
    "incremental": "--incremental_mode never",
    "unknown-flag": "--image_sise 256",
    "no-such-list": "--url_list nowhere.txt",
    "no-such-column": "--input_format parquet --url_col address",
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_img2dataset_refuses_is_refused(mistake: str, tools: Tools, lists: Path) -> None:
    """In a line that names what was wrong, and before anything is made."""
    words = shlex.split(REFUSED[mistake])
    if "--url_list" not in words:
        words = ["--url_list", str(lists / ("mscoco.parquet" if "parquet" in words else "few.txt")), *words]
    run = tools.ours(f"refused-{mistake}", [*words, "--output_folder", "out"], output="out")

    assert run.status == 2, run.said
    assert "Traceback" not in run.said
    assert not run.dataset.folder.exists()


KEYWORDS: Final = """
from PACKAGE import download

if __name__ == "__main__":
    download(
        processes_count=2,
        thread_count=32,
        url_list="LISTS/mscoco.parquet",
        image_size=512,
        resize_only_if_bigger=True,
        resize_mode="keep_ratio_largest",
        skip_reencode=True,
        output_folder="shards",
        output_format="webdataset",
        input_format="parquet",
        url_col="URL",
        caption_col="TEXT",
        number_sample_per_shard=10,
        oom_shard_count=8,
        save_additional_columns=["SAMPLE_ID"],
        enable_wandb=False,
        distributor="multiprocessing",
        compute_hash="sha256",
        verify_hash=None,
        disallowed_header_directives=[],
        max_aspect_ratio=float("inf"),
        subjob_size=11520,
        retries=2,
        ALSO
    )
"""


# By place, in the order of img2dataset's signature.
POSITIONS: Final = """
from PACKAGE import download

if __name__ == "__main__":
    download("LISTS/few.txt", 200, "shards", 1, "keep_ratio", True, ALSO)
"""


@pytest.mark.parametrize("script", [KEYWORDS, POSITIONS], ids=["keywords", "positions"])
def test_scripts_do_the_same(script: str, tools: Tools, lists: Path, original: Original) -> None:
    """A script that calls ``download`` needs another import, no more."""
    pair = tools.scripts(f"script-{len(script)}", script.replace("LISTS", str(lists)), output="shards")

    assert pair.theirs.status == 0, pair.theirs.said
    assert pair.ours.status == 0, pair.ours.said
    assert_same(pair, "script", original)


def assert_same(pair: Pair, setting: str, original: Original) -> None:
    """Compare two datasets in every aspect."""
    theirs, ours = views(pair, setting, original)
    assert theirs.dataset.images
    for name, aspect in ASPECTS.items():
        assert (name, aspect(ours)) == (name, aspect(theirs))
