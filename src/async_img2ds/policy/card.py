"""The card of a dataset on the Hugging Face Hub: what it is, how it was made, whose the images are; text from figures.

It is written between marks, at the head for programs and below for people, and made anew between these alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["BEGIN", "END", "CardFacts", "card", "renewed"]

BEGIN: Final = "<!-- aimg2ds: begin -->"
END: Final = "<!-- aimg2ds: end -->"
_HEAD_BEGIN: Final = "# aimg2ds: begin"
_HEAD_END: Final = "# aimg2ds: end"
_FIELD: Final = re.compile(r"^([\w-]+)[ \t]*:", re.MULTILINE)

# The words that the Hub knows for how many examples a dataset has.
_SIZES: Final = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
    (10**10, "1B<n<10B"),
    (10**11, "10B<n<100B"),
    (10**12, "100B<n<1T"),
)
# Of what are named one by one.
_NAMED_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says.

    Attributes:
        repo: the dataset's name on the Hub, such as ``org/name``.
        told: of the dataset as a whole, as its manifest has it.
        ending: of the files that have the images: tar, parquet or tfrecord.
        pattern: which files have what ``load_dataset`` gives: the tars, or the tables.
        examples: how many they have.
        features: of these, as Hugging Face ``datasets`` writes them into a card; None if they are not told.
        contact: whom to ask for removal; None for the page of the dataset itself.

    """

    repo: str
    told: Mapping[str, Any]
    ending: str
    pattern: str
    examples: int
    features: Sequence[Mapping[str, Any]] | None
    contact: str | None


def card(facts: CardFacts) -> str:
    """Return a whole card."""
    return f"---\n{_head(facts)}\n---\n\n{_body(facts)}\n"


def renewed(old: str, facts: CardFacts) -> str:
    """Return the card *old* with what stands between our marks as it is now; without marks it stays as it is.

    Of a field that stands in the head outside of the marks, such as the licence that somebody chose, we say nothing.
    """
    fence = "---\n"
    head, closing, body = old.partition(f"\n{fence}")
    if not (old.startswith(fence) and closing):
        head, closing, body = "", "", old
    theirs = frozenset(_FIELD.findall(_between(head, _HEAD_BEGIN, _HEAD_END, "")))
    new = _head(facts, theirs), _body(facts, theirs)
    return _between(head, _HEAD_BEGIN, _HEAD_END, new[0]) + closing + _between(body, BEGIN, END, new[1])


def _between(text: str, begin: str, end: str, new: str) -> str:
    """Return *text* with *new* in the place of what stands from *begin* to *end*, if both are there."""
    before, found, rest = text.partition(begin)
    _, found_end, behind = rest.partition(end)
    return before + new + behind if found and found_end else text


def _head(facts: CardFacts, theirs: frozenset[str] = frozenset()) -> str:
    """Return what programs read, in YAML, but for what others say."""
    told: dict[str, Any] = {
        "license": "unknown",
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": facts.pattern}]}],
    }
    if facts.features is not None:
        told["dataset_info"] = {"features": facts.features}
    told["size_categories"] = [next((word for most, word in _SIZES if facts.examples < most), "n>1T")]
    told["tags"] = ["image", "webdataset" if facts.ending == "tar" else facts.ending]
    return "\n".join([_HEAD_BEGIN, *_yaml({name: told[name] for name in told if name not in theirs}), _HEAD_END])


def _yaml(value: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a mapping in YAML; texts are quoted as in JSON, which YAML reads."""
    for name, one in value.items():
        if isinstance(one, dict):
            yield f"{name}:"
            yield from (f"  {line}" for line in _yaml(one))
        elif isinstance(one, list | tuple):
            yield f"{name}:"
            for item in one:
                first, *rest = list(_yaml(item)) if isinstance(item, dict) else [json.dumps(item, ensure_ascii=False)]
                yield f"- {first}"
                yield from (f"  {line}" for line in rest)
        else:
            yield f"{name}: {json.dumps(one, ensure_ascii=False)}"


def _body(facts: CardFacts, theirs: frozenset[str] = frozenset()) -> str:
    """Return what people read, in Markdown."""
    is_licensed = "license" in theirs
    rights = _rights(facts, is_licensed=is_licensed)
    parts = [_what_it_is(facts), *_how_to_read(facts), _how_it_was_made(facts), _what_failed(facts), *rights]
    return "\n\n".join([BEGIN, *(part for part in parts if part), END])


def _what_it_is(facts: CardFacts) -> str:
    told = facts.told
    share = told["images"] / told["rows"] if told["rows"] else 0.0
    when = ""
    if None not in (told["began"], told["ended"]):
        first, last = _day(told["began"]), _day(told["ended"])
        when = f" on {first}" if first == last else f" between {first} and {last}"
    lines = [
        f"# {facts.repo.rpartition('/')[2]}",
        "",
        f"{told['images']:,} images from {told['rows']:,} URLs ({share:.1%}), fetched from the web{when} by "
        f"{told['written_by']}, in {told['shards']:,} shards with {_size(told['bytes'])}.",
    ]
    if told["missing"]:
        lines[-1] += f" {told['missing']:,} shards of the list are not here, or not yet."
    return "\n".join(lines)


def _how_to_read(facts: CardFacts) -> Iterator[str]:
    yield "## How to read it"
    yield (
        "```python\nfrom datasets import load_dataset\n\n"
        f'dataset = load_dataset("{facts.repo}", split="train", streaming=True)\n```'
    )
    if facts.ending == "tfrecord":
        yield "That reads the tables; the images are in the records of `NNNNN.tfrecord`, which TensorFlow reads."
    tables = (
        "Each `NNNNN.parquet` has one row for every URL of its shard, those that failed included, with `status`, "
        "`error_class` and `key`; the images have the same key."
    )
    yield tables + (
        " `NNNNN_stats.json` counts them, `_manifest` tells of all files, and `sha256sum -c _sha256sums` "
        "checks a copy." + (" `_wids` is the index of shards that wids reads." if facts.ending == "tar" else "")
    )


def _how_it_was_made(facts: CardFacts) -> str:
    lines = ["## How it was made"]
    for made in facts.told["made_with"]:
        several = f"{made['shards']:,} shards were made " if len(facts.told["made_with"]) > 1 else "It was made "
        if made["options"] is None:
            lines.append(f"{several}by img2dataset, which does not say with what options.")
            continue
        options = "\n".join(f"| {name} | {_cell(value)} |" for name, value in sorted(made["options"].items()))
        lines.append(f"{several}with these options of `aimg2ds fetch`:\n\n| option | value |\n|---|---|\n{options}")
    return "\n\n".join(lines)


def _what_failed(facts: CardFacts) -> str:
    classes = sorted(facts.told["error_classes"].items(), key=lambda item: item[1], reverse=True)
    if not classes:
        return ""
    rows = "\n".join(f"| {_cell(name)} | {count:,} |" for name, count in classes[:_NAMED_MAX])
    more = f"\n\nand {len(classes) - _NAMED_MAX} reasons more." if len(classes) > _NAMED_MAX else ""
    return f"## What could not be had\n\n| reason | URLs |\n|---|---|\n{rows}{more}"


def _rights(facts: CardFacts, *, is_licensed: bool) -> Iterator[str]:
    yield "## What owners reserve"
    yield "\n\n".join(dict.fromkeys(_obeyed(made["options"]) for made in facts.told["made_with"]))
    left_out = sum(count for name, count in facts.told["error_classes"].items() if name.startswith("optout_"))
    if left_out:
        yield f"{left_out:,} images were left out, or removed later, because of that."
    yield "## Whose the images are"
    yield (
        "Every image belongs to whoever made it or holds its rights, and stays under the terms of the place where it "
        "was found, which `url` in the tables names. Under what licence that is, is not known: nobody has looked. "
        "This dataset grants no rights to any of them; who uses an image must see that they may."
        + (" The licence named at the head of this card was chosen by whoever keeps it." if is_licensed else "")
    )
    yield "## How to have images removed"
    how = f"Write to {facts.contact}" if facts.contact else "Open a discussion in the Community tab of this page"
    yield (
        f"{how}, and name the URLs or the host. Whoever keeps this dataset can take them out with `aimg2ds purge`, "
        "after which they are not fetched for it again. Older versions of this repository may still have them until "
        "its history is deleted, too, and so may copies."
    )


def _obeyed(options: Mapping[str, Any] | None) -> str:
    """Return in words which reservations of owners were obeyed with these *options*."""
    if options is None or "optout" not in options:
        return "It is not told which reservations of owners were obeyed when some of it was fetched."
    if options["optout"] == "none":
        return "Reservations of owners kept no image out."
    directives = options.get("disallowed_header_directives") or []
    headers = ["`TDM-Reservation: 1`", "`Content-Usage: train-ai=n`"]
    if directives:
        headers.insert(0, f"`X-Robots-Tag: {', '.join(map(str, directives))}`")
    obeyed = f"Images whose servers answered with {', '.join(headers[:-1])} or {headers[-1]} were left out"
    if options["optout"] == "strict":
        obeyed += ", and so were those that robots.txt, tdmrep.json or the image's own metadata reserve"
    if options.get("optout_col"):
        obeyed += f", and those that the list marks in {_cell(options['optout_col'])}"
    return obeyed + "."


def _cell(value: object) -> str:
    """Return *value* as it can stand in a table and a line of Markdown."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "".join(each if each.isprintable() else " " for each in text)
    for mark in "\\|`*_<>[]":
        text = text.replace(mark, f"\\{mark}")
    return text


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e10 else f"{count / 1e6:,.1f} MB"  # noqa: PLR2004  ten of them


def _day(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):  # whatever a stats file says
        return "a day unknown"
