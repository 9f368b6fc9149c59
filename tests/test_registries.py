"""What is listed in two places is the same in both: the choices of an option, and the table that carries them out."""

from __future__ import annotations

from importlib.metadata import metadata
from pathlib import Path

import pytest

from async_img2ds.distributors.base import DISTRIBUTORS, distributor
from async_img2ds.errors import ErrorClass
from async_img2ds.hints import HINTS
from async_img2ds.images import codec
from async_img2ds.inputs.files import COMPRESSIONS, split_format
from async_img2ds.inputs.formats import FORMATS
from async_img2ds.options import RESERVED_COLUMNS, flags
from async_img2ds.outputs.base import WRITERS
from async_img2ds.policy.geometry import PLACEMENTS
from async_img2ds.policy.schema import Columns
from async_img2ds.preflight import EXTRAS

CHOICES = {flag.name: set(flag.choices) for flag in flags() if flag.choices}


@pytest.mark.parametrize(
    ("option", "table"),
    [
        ("output_format", WRITERS),
        ("resize_mode", PLACEMENTS),
        ("distributor", DISTRIBUTORS),
        ("upscale_interpolation", codec.ENLARGING),
        ("downscale_interpolation", codec.REDUCING),
    ],
)
def test_choices_of_an_option_are_what_is_there(option: str, table: dict[str, object]) -> None:
    """Nothing is offered that cannot be done, and nothing can be done that is not offered."""
    assert CHOICES[option] == set(table)


def test_input_formats_are_the_formats_and_their_compressed_forms() -> None:
    """Each choice is read as some format; each format is a choice; what is compressed one way can be the other."""
    choices = CHOICES["input_format"]
    packed = {choice.partition(".")[0] for choice in choices if "." in choice}

    assert {split_format(choice)[0] for choice in choices} == set(FORMATS)
    assert choices == set(FORMATS) | {f"{name}.{ending}" for name in packed for ending in COMPRESSIONS}


@pytest.mark.parametrize("name", DISTRIBUTORS)
def test_every_distributor_can_be_loaded(name: str) -> None:
    """The names in the table lead to something, where what it needs is installed."""
    if needed := EXTRAS.get(("run.distributor", name)):
        pytest.importorskip(needed[0])

    assert callable(distributor(name))


@pytest.mark.parametrize("option", EXTRAS)
def test_extras_are_offered_for_what_can_be_chosen(option: tuple[str, str]) -> None:
    """What is said to need an extra is a choice of that option, and the package has that extra."""
    name, choice = option

    assert choice in CHOICES[name.rpartition(".")[2]]
    assert EXTRAS[option][1] in (metadata("async-img2ds").get_all("Provides-Extra") or [])


def test_columns_of_the_output_are_reserved() -> None:
    """A column of the list can hide none of them."""
    written = {field.name for field in Columns(exif=True, digest="sha256").fields()}

    assert written <= set(RESERVED_COLUMNS)
    assert CHOICES["compute_hash"] <= set(RESERVED_COLUMNS)


def test_reasons_are_told_where_people_read() -> None:
    """Each has its hint, and the page of formats has all of them, in their order and words."""
    page = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
    rows = [f"| `{name}` | {hint} |" for name, hint in HINTS.items()]

    assert list(HINTS) == list(ErrorClass)
    assert page.rstrip().endswith("\n".join(rows))
