"""The card of a dataset: what it says follows from figures, and what people have written around it stays."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.options import Options
from async_img2ds.policy.card import BEGIN, END, CardFacts, card, renewed

OPTIONS = Options.of(url_list="urls.txt", output_format="webdataset").shape()
TOLD: dict[str, Any] = {
    "written_by": "async-img2ds 9.9",
    "shards": 12,
    "rows": 120_000,
    "images": 90_000,
    "bytes": 25 * 10**9,
    "began": 1.78e9,
    "ended": 1.7802e9,
    "missing": 0,
    "error_classes": {"http_status_4xx": 29_000, "optout_header": 1000},
    "made_with": [{"options": OPTIONS, "shards": 12, "numbers": [[0, 11]]}],
}
FACTS = CardFacts("org/name", TOLD, "tar", "*.tar", 90_000, None, None)


def told(**others: Any) -> CardFacts:
    return replace(FACTS, told={**TOLD, **others})


def made_with(**others: Any) -> CardFacts:
    return told(made_with=[{"options": {**OPTIONS, **others}, "shards": 12, "numbers": [[0, 11]]}])


def test_figures_are_told() -> None:
    """Images, URLs, their share, when and by what; what failed, and what was reserved."""
    text = card(FACTS)

    assert "90,000 images from 120,000 URLs (75.0%)" in text
    assert "between 2026-05-28 and 2026-05-31 by async-img2ds 9.9, in 12 shards with 25.0 GB" in text
    assert "| http\\_status\\_4xx | 29,000 |" in text
    assert "1,000 images were left out, or removed later, because of that." in text
    assert "12 shards of the list are not here" in card(told(missing=12))


def test_people_learn_whose_the_images_are_and_how_to_have_them_removed() -> None:
    """And whom to ask."""
    assert "Every image belongs to whoever made it or holds its rights" in card(FACTS)
    assert "Open a discussion in the Community tab of this page, and name the URLs" in card(FACTS)
    assert "Write to images@example.org, and name the URLs" in card(replace(FACTS, contact="images@example.org"))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (FACTS, "`X-Robots-Tag: noai, noimageai, noimageindex, noindex, noml`, `TDM-Reservation: 1` or"),
        (made_with(optout="none"), "Reservations of owners kept no image out."),
        (made_with(optout="strict"), "robots.txt, tdmrep.json or the image's own metadata reserve"),
        (made_with(disallowed_header_directives=[]), "answered with `TDM-Reservation: 1` or `Content-Usage"),
        (made_with(optout_col="no_ai"), "and those that the list marks in no\\_ai."),
        (told(made_with=[{"options": None, "shards": 12, "numbers": []}]), "It is not told which reservations"),
        (told(made_with=[{"options": None, "shards": 12, "numbers": []}]), "by img2dataset, which does not say"),
    ],
)
def test_reservations_that_were_obeyed_are_told(facts: CardFacts, words: str) -> None:
    """As they were chosen, and not better."""
    assert words in card(facts)


@pytest.mark.parametrize(
    ("examples", "word"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (90_000, "10K<n<100K"), (10**9, "1B<n<10B"), (10**13, "n>1T")],
)
def test_size_is_told_in_the_words_of_the_hub(examples: int, word: str) -> None:
    """By the number of examples."""
    assert f'size_categories:\n- "{word}"\n' in card(replace(FACTS, examples=examples))


def test_all_sets_of_options_are_told() -> None:
    """Each with how many shards were made with it."""
    several: list[dict[str, Any]] = [
        {"options": {**OPTIONS, "image_size": size}, "shards": size, "numbers": []} for size in (256, 512)
    ]
    text = card(told(made_with=several))

    assert "256 shards were made with these options" in text
    assert "512 shards were made with these options" in text
    assert text.count("Images whose servers answered") == 1


def test_renewing_changes_what_is_between_the_marks_alone() -> None:
    """A licence in the head and text around stay where they are."""
    old = card(FACTS).replace("---\n#", "---\nlicense: other\n#", 1)
    old = old.replace(f"\n{BEGIN}", f"\n# Mine\n\n---\n\n{BEGIN}").replace(
        END, f"{END}\n\nThanks to all. # aimg2ds: begin"
    )
    new = renewed(old, replace(told(images=91_000), examples=10))

    assert "91,000 images" in new
    assert 'size_categories:\n- "n<1K"' in new
    assert new.startswith("---\nlicense: other\n# aimg2ds: begin\n")
    assert "\n# Mine\n\n---\n" in new
    assert new.endswith("Thanks to all. # aimg2ds: begin\n")
    assert renewed(new, FACTS) == renewed(old, FACTS)


def test_a_field_that_somebody_chose_is_theirs() -> None:
    """It stands once in the head, or no program could read that; the rights of the images are no others for it."""
    old = card(FACTS).replace("# aimg2ds: end\n---", "# aimg2ds: end\nlicense: cc-by-4.0\ntags:\n- cats\n---", 1)
    new = renewed(old, FACTS)
    head, body = new.split("---\n")[1:3]

    assert [line for line in head.splitlines() if line.startswith(("license", "tags"))] == [
        "license: cc-by-4.0",
        "tags:",
    ]
    assert "size_categories:" in head
    assert "The licence named at the head of this card was chosen by whoever keeps it." in body
    assert "Under what licence that is, is not known" in body


def test_no_licence_is_made_up() -> None:
    """Nobody knows it, and that is said to programs and to people."""
    assert 'license: "unknown"\n' in card(FACTS).split("---\n")[1]
    assert "Under what licence that is, is not known" in card(FACTS)
    assert "chosen by whoever keeps it" not in card(FACTS)


def test_images_in_records_are_told_of() -> None:
    """What is read with one line are tables there."""
    assert "the images are in the records of `NNNNN.tfrecord`" in card(replace(FACTS, ending="tfrecord"))
    assert "records" not in card(FACTS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# Mine\n",
        "---\nlicense: mit\n---\n# Mine\n",
        BEGIN,
        f"{END} {BEGIN}",
        "---\n# aimg2ds: begin\n---\n",
        "---\n",
    ],
)
def test_a_card_without_our_marks_stays(text: str) -> None:
    """It is somebody's own."""
    assert renewed(text, FACTS) == text


@given(
    st.text(),
    st.dictionaries(st.text(min_size=1), st.integers(1, 100), max_size=3),
    st.lists(st.text(), max_size=2),
)
def test_no_value_breaks_the_page(column: str, classes: dict[str, int], columns: list[str]) -> None:
    """Names of columns are the user's: they end no table row, and make no mark."""
    facts = replace(
        made_with(caption_col=column, save_additional_columns=columns),
        told={**made_with(caption_col=column, save_additional_columns=columns).told, "error_classes": classes},
    )
    text = card(facts)

    assert text.count(BEGIN) == text.count(END) == 1
    assert renewed(text, facts) == text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "option" not in line]
    for row in rows:
        assert row.endswith(" |")
        assert row.replace("\\\\", "").replace("\\|", "").count("|") == 3


@given(
    st.recursive(
        st.sampled_from([{"dtype": "string"}, {"dtype": "image"}]),
        lambda inner: (
            st.builds(lambda one: {"list": one}, inner)
            | st.builds(lambda one: {"struct": [{"name": "a: b", **one}, {"name": "#", **one}]}, inner)
        ),
        max_leaves=4,
    )
)
def test_head_is_yaml(feature: dict[str, Any]) -> None:
    """Whatever the features are, a reader of YAML finds them as they were."""
    yaml = pytest.importorskip("yaml")
    features = [{"name": "json", **feature}]
    head = card(replace(FACTS, features=features)).split("---\n")[1]
    found = yaml.safe_load(head)

    assert found["dataset_info"]["features"] == json.loads(json.dumps(features))
    assert found["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "*.tar"}]}]
    assert found["tags"] == ["image", "webdataset"]
