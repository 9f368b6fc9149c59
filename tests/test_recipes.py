"""Recipes: what each stands for, that its page says the same, and a run of each on a list of the published shape.

The pages in ``docs/datasets`` are read here: their commands are typed, and the columns of the lists are those of their
tables.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image, ImageChops

from async_img2ds import Options, OptionsError, RunReport, cli, download
from async_img2ds.cli.fetch import recipe_in_words
from async_img2ds.cli.spelling import given
from async_img2ds.options import flags
from async_img2ds.recipes import RECIPES

if TYPE_CHECKING:
    from origin import Origin

PAGES: Final = Path(__file__).parent.parent / "docs" / "datasets"
NAMES: Final = tuple(RECIPES)
QUIET: Final[dict[str, Any]] = {"allow_net": "127.0.0.0/8", "progress": "none", "retries": 0, "processes_count": 1}

# What the rows of a list lead to, and how they end.
ROWS: Final = ("rocket.jpg", "chelsea-baseline.jpg", "hubble_deep_field.jpg", "coffee.png", "retina.jpg")
FAILURES: Final = {
    "no-such.jpg": ("failed_to_download", "http_status_4xx"),
    "truncated.jpg": ("failed_to_resize", "decode_truncated"),
}
ROWS_PER_SHARD: Final = 4
# The first begins with a quotation mark that is never closed, as captions of the web do.
CAPTIONS: Final = (
    '"a rocket',
    "a cat, sitting",
    "galaxies “far away”",
    "café",
    'an "eye" of blood vessels',
    "",
    "half",
)

SIZES: Final = {
    "as they are": ((640, 427), (451, 300), (1000, 872), (600, 400), (1411, 1411)),
    "256 border": ((256, 256),) * 5,
    "256 keep_ratio": ((384, 256), (385, 256), (294, 256), (384, 256), (256, 256)),
    "384 keep_ratio": ((576, 384), (451, 300), (440, 384), (576, 384), (384, 384)),
    "512 keep_ratio_largest": ((512, 342), (451, 300), (512, 446), (512, 341), (512, 512)),
    "1024 keep_ratio": ((640, 427), (451, 300), (1000, 872), (600, 400), (1024, 1024)),
}


@dataclasses.dataclass(frozen=True)
class Made:
    """What a dataset of a recipe looks like.

    Attributes:
        sizes: the key of SIZES.
        digits: how many the number of a shard has.
        columns: of the table, before ``key``.
        untouched: the pictures that are stored as they came.

    """

    sizes: str
    columns: tuple[str, ...] = ("caption", "url")
    digits: int = 5
    untouched: tuple[str, ...] = ()


_SMALL: Final = ("chelsea-baseline.jpg",)
_OF_2021: Final = ("NSFW", "similarity", "LICENSE")
_OF_2022: Final = ("similarity", "hash", "punsafe", "pwatermark")
MADE: Final = {
    "mscoco": Made("256 border"),
    "sbucaptions": Made("256 border"),
    "cc3m": Made("256 border"),
    "cc12m": Made("256 border"),
    "laion400m": Made("256 border", (*_OF_2021, "caption", "url")),
    "laion5b": Made("384 keep_ratio", (*_OF_2021, "caption", "url"), digits=6, untouched=_SMALL),
    "laion-aesthetic": Made("384 keep_ratio", (*_OF_2022, "aesthetic", "caption", "url"), untouched=_SMALL),
    "laion-art": Made("384 keep_ratio", (*_OF_2022, "aesthetic", "LANGUAGE", "caption", "url"), untouched=_SMALL),
    "laion-coco": Made(
        "256 keep_ratio", (*_OF_2022, "top_caption", "all_captions", "all_similarities", "caption", "url")
    ),
    "laion-high-resolution": Made(
        "1024 keep_ratio",
        (*_OF_2022, "LANGUAGE", "caption", "url"),
        untouched=("rocket.jpg", "chelsea-baseline.jpg", "hubble_deep_field.jpg"),
    ),
    "laion-face": Made("as they are", (*_OF_2021, "SAMPLE_ID", "caption", "url")),
    "coyo-700m": Made(
        "384 keep_ratio",
        (
            *("clip_similarity_vitb32", "clip_similarity_vitl14", "nsfw_score_opennsfw2", "nsfw_score_gantman"),
            *("watermark_score", "aesthetic_score_laion_v2", "caption", "url"),
        ),
        untouched=_SMALL,
    ),
    "commonpool": Made("512 keep_ratio_largest", ("uid", "face_bboxes", "caption", "url"), digits=8),
    "datacomp-1b": Made("512 keep_ratio_largest", ("uid", "face_bboxes", "caption", "url"), digits=8),
}

TYPES: Final = {
    "string": pa.string(),
    "float": pa.float32(),
    "double": pa.float64(),
    "int64": pa.int64(),
    "list<string>": pa.list_(pa.string()),
    "list<double>": pa.list_(pa.float64()),
    "list<list<double>>": pa.list_(pa.list_(pa.float64())),
}
# A value of each row for a column of each type, with those that are lost first when types are not kept.
VALUES: Final[dict[str, list[Any]]] = {
    "string": ["UNLIKELY", "?", "ünïcode", 'a,b\t"c"', "0012", "", None],
    "float": [0.1, -0.25, 0.0, 7.0, 1e-20, 3.5, None],
    "double": [0.1, 0.330000001, -0.25, 0.0, 1e-200, 1.0, None],
    "int64": [2**63 - 1, -(2**63), 0, 2**53 + 1, 7, 8, None],
    "list<string>": [["a cat", "a tabby"], [], None, ['"quoted"'], ["é"], ["x", "y", "z"], None],
    "list<double>": [[0.31, 0.29], [], None, [0.1], [-1.0], [0.1, 0.2, 0.3], None],
    "list<list<double>>": [
        [[0.1, 0.2, 0.5, 0.9]],
        [],
        None,
        [[0.0, 0.0, 0.1, 0.1], [0.5, 0.5, 1.0, 1.0]],
        [],
        [],
        None,
    ],
}


def text_of(name: str) -> str:
    """Return the page of the recipe *name*."""
    return (PAGES / f"{name}.md").read_text()


def blocks(text: str) -> list[str]:
    """Return what *text* has to be typed into a shell."""
    return re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """Return the words behind ``aimg2ds fetch`` of each command in *text*."""
    lines = "\n".join(blocks(text)).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[2:] for line in lines if line.startswith("aimg2ds fetch ")]


def section(text: str, title: str) -> str:
    """Return what stands below the heading *title*."""
    [found] = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return str(found)


def columns_of(name: str) -> dict[str, str]:
    """Return the columns that the page of a recipe says its list has, with their types."""
    rows = re.findall(r"^\| `(\w+)` \| `?([\w<>]+)`? \|", section(text_of(name), "The list"), re.MULTILINE)
    assert len(rows) == len(dict(rows))
    return dict(rows)


def understood(words: list[str]) -> Options:
    """Return the request that the command line makes of *words*."""
    fetch = typer.main.get_command(cli.app).commands["fetch"]  # type: ignore[attr-defined]  # it is a group
    typed = fetch.make_context("fetch", list(words)).params
    return Options.of(**given({name: word or None for name, word in typed.items()}, tuple(flags())))


def without_recipe(options: Options) -> Options:
    return dataclasses.replace(options, input=dataclasses.replace(options.input, recipe=None))


def test_every_recipe_has_a_page_and_every_page_a_recipe() -> None:
    """And there is a run of each here."""
    assert {path.stem for path in PAGES.glob("*.md")} - {"README"} == set(RECIPES) == set(MADE)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_of_a_recipe_exists(name: str) -> None:
    """One of another name would be passed over, and faces, for one, not be blurred."""
    assert set(RECIPES[name]) <= {flag.name for flag in flags()}


def test_overview_has_a_line_for_every_recipe() -> None:
    """With the page, the format of the list, and the images that the recipe makes."""
    rows = re.findall(
        r"^\| \[.+\]\((.+)\.md\) \| .+ \| (\w+) \| `(.+)` \| (.+) \| .+ \|$", text_of("README"), re.MULTILINE
    )
    images = {
        name: "as they are"
        if recipe.get("resize_mode") == "no"
        else f"{recipe['image_size']}, {recipe.get('resize_mode', 'border')}"
        for name, recipe in RECIPES.items()
    }

    assert rows == [(name, RECIPES[name]["input_format"], name, images[name]) for name in NAMES]


@pytest.mark.parametrize("page", [*NAMES, "README"])
def test_every_command_of_a_page_can_be_typed(page: str) -> None:
    """The command line takes each of them."""
    found = commands(text_of(page))

    assert found
    for words in found:
        understood(words)


@pytest.mark.parametrize("page", [*NAMES, "README"])
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    """Those to files of this repository to files, those to headings to headings."""
    for target in re.findall(r"\]\((?!https?:)(.+?)\)", text_of(page)):
        file, _, heading = target.partition("#")
        path = PAGES / file if file else PAGES / f"{page}.md"
        titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE) if heading else []

        assert path.is_file()
        assert not heading or heading in {title.lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", NAMES)
def test_page_says_what_the_recipe_stands_for(name: str) -> None:
    """The long form of the command names the recipe's options, no others, and asks for the same as the short one."""
    short, long, *_ = commands(section(text_of(name), "Fetch it"))
    asked, spelled_out = understood(short), understood(long)
    named = {word.removeprefix("--") for word in long if word.startswith("--")}

    assert (asked.input.recipe, spelled_out.input.recipe) == (name, None)
    assert spelled_out == without_recipe(asked)
    assert named == {"output_folder", *RECIPES[name]}
    assert asked == Options.of(url_list=short[0], output_folder=asked.output.output_folder, recipe=name)


@pytest.mark.parametrize("name", NAMES)
def test_page_lists_the_columns_that_the_recipe_uses(name: str) -> None:
    """In the order of the metadata, each of a type that lists are known to have."""
    recipe = RECIPES[name]
    boxes = [recipe["bbox_col"]] if "bbox_col" in recipe else []
    used = [*recipe.get("save_additional_columns", ()), *boxes, recipe["caption_col"], recipe["url_col"]]
    listed = columns_of(name)

    assert list(listed) == used
    assert set(listed.values()) <= set(TYPES)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_recipe_is_said_to_stand_for_can_be_typed(name: str) -> None:
    """The line that the command prints for a recipe asks for the same without it."""
    options = Options.of(url_list="my list", recipe=name, image_size=99)
    said = recipe_in_words(options).removeprefix(f"{name}: ")

    assert understood(["my list", "--image_size=99", *shlex.split(said)]) == without_recipe(options)


def test_what_is_given_beside_a_recipe_counts_more() -> None:
    """Whether as a value, as words, or as nothing at all."""
    options = Options.of(url_list="a", recipe="laion400m", image_size=512, url_col="url", save_additional_columns="[]")

    assert (options.image.image_size, options.input.url_col, options.input.save_additional_columns) == (512, "url", ())
    assert (options.input.input_format, options.input.caption_col) == ("parquet", "TEXT")


def test_command_line_says_what_a_recipe_stands_for(origin: Origin, tmp_path: Path) -> None:
    """On standard error, with what was given beside it in its place; and does so."""
    (tmp_path / "cc3m.tsv").write_text(f"caption\turl\na rocket\t{origin.url('rocket.jpg')}\n")
    done = aimg2ds(
        *("fetch", "cc3m.tsv", "--recipe", "cc3m", "--image_size", "512", "--allow_net", "127.0.0.0/8"),
        *("--output_folder", "out", "--processes_count", "1"),
        cwd=tmp_path,
    )
    [said] = [line for line in done.stderr.splitlines() if line.startswith("cc3m: ")]

    assert done.returncode == 0
    assert said == (
        "cc3m: --input_format tsv --url_col url --caption_col caption --output_format webdataset --image_size 512"
    )
    assert sizes_of(images_in(tmp_path / "out")) == {"000000000": (512, 512)}


def test_unknown_recipe_is_refused_with_those_there_are(tmp_path: Path) -> None:
    """Exit 2 and their names, before anything is made."""
    done = aimg2ds("fetch", "list.parquet", "--recipe", "laion6b", cwd=tmp_path)

    assert done.returncode == 2
    assert all(name in done.stderr for name in (*NAMES, "laion6b"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_recipe_makes_of_a_published_list_what_its_users_expect(
    origin: Origin, photographs_bytes: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    """Each row once, columns with their types, captions, names, and images of the recipe's size."""
    made, out = MADE[name], tmp_path / "out"
    pictures = [*ROWS, *FAILURES]
    urls = [origin.url(f"{picture}?row={number}") for number, picture in enumerate(pictures)]
    url_list = write_list(tmp_path, name, urls)
    report = fetch(url_list, out, name, number_sample_per_shard=ROWS_PER_SHARD)
    keys = [f"{10 * (row // ROWS_PER_SHARD) + row % ROWS_PER_SHARD:0{made.digits + 1}}" for row in range(len(urls))]
    table = metadata(out)
    members, images, samples = members_in(out), images_in(out), {row["url"]: row for row in table.to_pylist()}

    assert (report.count, report.successes) == (len(urls), len(ROWS))
    assert sorted(path.name for path in out.glob("[!.]*")) == [
        f"{shard:0{made.digits}}{ending}" for shard in (0, 1) for ending in (".parquet", ".tar", "_stats.json")
    ]
    assert [samples[url]["key"] for url in urls] == keys
    assert table.num_rows == len(urls)
    assert [(samples[url]["status"], samples[url]["error_class"]) for url in urls] == [
        *[("success", None)] * len(ROWS),
        *FAILURES.values(),
    ]
    assert table.schema.names[: len(made.columns) + 1] == [*made.columns, "key"]
    for column, kind in listed_columns(name).items():
        assert table.schema.field(column).type == TYPES[kind]
        assert [samples[url][column] for url in urls] == pa.array(VALUES[kind], TYPES[kind]).to_pylist()
    assert [samples[url]["caption"] for url in urls] == list(CAPTIONS)
    assert sizes_of(images) == dict(zip(keys, SIZES[made.sizes], strict=False))
    assert {
        picture
        for key, picture in zip(keys, ROWS, strict=False)
        if hashlib.sha256(images[key]).digest() == hashlib.sha256(photographs_bytes[picture]).digest()
    } == set(made.untouched)
    for key, url, caption in zip(keys[: len(ROWS)], urls, CAPTIONS, strict=False):
        listed = json.loads(members[f"{key}.json"])
        assert members[f"{key}.txt"].decode() == caption
        assert {column: listed[column] for column in made.columns} == {
            column: samples[url][column] for column in made.columns
        }


@pytest.mark.parametrize("name", ["commonpool", "datacomp-1b"])
def test_faces_of_datacomp_are_blurred(origin: Origin, tmp_path: Path, name: str) -> None:
    """What lies in a box differs from the same photograph without one, and what is far from it does not."""
    boxes = [[[0.35, 0.1, 0.55, 0.4]], [], None]
    urls = [origin.url(f"astronaut-baseline.jpg?row={number}") for number in range(len(boxes))]
    table = {
        "uid": ["0" * 32, "1" * 32, "2" * 32],
        "url": urls,
        "text": ["an astronaut"] * 3,
        "face_bboxes": pa.array(boxes, TYPES["list<list<double>>"]),
    }
    pq.write_table(pa.table(table), tmp_path / "list.parquet")
    fetch(tmp_path / "list.parquet", tmp_path / "out", name)
    blurred, plain, unknown = (Image.open(io.BytesIO(image)) for image in images_in(tmp_path / "out").values())
    changed = ImageChops.difference(blurred, plain).getbbox()

    assert plain.tobytes() == unknown.tobytes()
    assert plain.size == (512, 512)
    assert changed is not None
    left, top, right, bottom = changed
    # The box is 179 to 281 across and 51 to 204 down; blur fades out around it, and a JPEG changes in blocks of 16.
    assert 100 <= left <= 179
    assert 0 <= top <= 51
    assert 281 <= right <= 360
    assert 204 <= bottom <= 290


@pytest.mark.parametrize(("name", "url_list"), [("cc3m", "cc3m.tsv"), ("cc12m", "cc12m.tsv")])
def test_header_is_put_before_what_google_publishes(tmp_path: Path, name: str, url_list: str) -> None:
    """The page's line makes a record of each line, whatever quotation marks are in it."""
    lines = list(zip(CAPTIONS, (f"http://h.test/{number}" for number in range(len(CAPTIONS))), strict=True))
    prepare(tmp_path, name, lines)
    records = (tmp_path / url_list).read_text().splitlines()

    assert records[0] == "\t".join(["caption", "url"] if name == "cc3m" else ["url", "caption"])
    assert len(records) == 1 + len(lines)
    assert all(record.count('"') % 2 == 0 for record in records)


@pytest.mark.parametrize("name", ["laion400m", "laion5b", "laion-coco"])
def test_lists_that_laion_released_again_are_fetched_as_the_page_says(
    origin: Origin, tmp_path: Path, name: str
) -> None:
    """With the recipe alone the list is refused, and its columns are named; with the page's options it is fetched."""
    table = {"key": ["0"], "url": [origin.url("rocket.jpg")], "caption": ["a rocket"], "status": ["success"]}
    pq.write_table(pa.table(table), tmp_path / "list.parquet")
    [words] = commands(section(text_of(name), "The list"))
    read = understood(words).input

    with pytest.raises(OptionsError, match=r"'(URL|TEXT|similarity|NSFW)'; it has key, url, caption, status"):
        fetch(tmp_path / "list.parquet", tmp_path / "out", name)
    options = {"url_col": read.url_col, "caption_col": read.caption_col}
    carried = list(read.save_additional_columns)
    report = fetch(
        tmp_path / "list.parquet", tmp_path / "out", str(read.recipe), save_additional_columns=carried, **options
    )

    assert report.successes == 1
    assert [row["caption"] for row in metadata(tmp_path / "out").to_pylist()] == ["a rocket"]


def test_images_of_the_md5_lists_are_held_against_it(
    origin: Origin, photographs_bytes: dict[str, bytes], tmp_path: Path
) -> None:
    """What is not the image that LAION saw is a row that failed."""
    digest = hashlib.md5(photographs_bytes["rocket.jpg"], usedforsecurity=False).hexdigest()
    urls = [origin.url("rocket.jpg"), origin.url("coffee.png")]
    table = {
        "URL": urls,
        "TEXT": ["a rocket", "coffee"],
        "md5": [digest, digest],
        "NSFW": ["UNLIKELY"] * 2,
        "similarity": [0.3] * 2,
        "LICENSE": ["?"] * 2,
    }
    pq.write_table(pa.table(table), tmp_path / "list.parquet")
    [words] = [words for words in commands(text_of("laion5b")) if "--verify_hash" in words]
    checked = {"compute_hash": "md5", "verify_hash": words[words.index("--verify_hash") + 1]}
    fetch(tmp_path / "list.parquet", tmp_path / "out", "laion5b", **checked)
    rows = {row["url"]: row for row in metadata(tmp_path / "out").to_pylist()}

    assert rows[urls[0]]["status"] == "success"
    assert (rows[urls[1]]["status"], rows[urls[1]]["error_message"]) == ("failed_to_download", "hash mismatch")


def aimg2ds(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "async_img2ds", *arguments], check=False, capture_output=True, text=True, cwd=cwd
    )


def fetch(url_list: Path, out: Path, name: str, **options: Any) -> RunReport:
    report = download(**QUIET, url_list=url_list, output_folder=out, recipe=name, **options)
    assert report.complete
    return report


def listed_columns(name: str) -> dict[str, str]:
    """Return the columns of a recipe's list that are neither URL nor caption."""
    recipe = RECIPES[name]
    return {
        column: kind
        for column, kind in columns_of(name).items()
        if column not in (recipe["url_col"], recipe["caption_col"])
    }


def write_list(folder: Path, name: str, urls: list[str]) -> Path:
    """Write a list of *urls* as it is published for the recipe *name*, with columns that it does not use."""
    recipe = RECIPES[name]
    if recipe["input_format"] == "tsv":
        prepare(folder, name, list(zip(CAPTIONS, urls, strict=True)))
        return folder / f"{name}.tsv"
    if recipe["input_format"] == "json":
        document = {"image_urls": urls, "user_ids": ["somebody"] * len(urls), "captions": CAPTIONS}
        (folder / "list.json").write_text(json.dumps(document))
        return folder / "list.json"
    columns = {column: pa.array(VALUES[kind], TYPES[kind]) for column, kind in listed_columns(name).items()}
    sizes = pa.array([100.0] * len(urls))
    table = {"WIDTH": sizes, **columns, recipe["url_col"]: urls, recipe["caption_col"]: CAPTIONS, "HEIGHT": sizes}
    (folder / "list").mkdir()
    pq.write_table(pa.table(table), folder / "list" / "part-00000.snappy.parquet")
    return folder / "list"


def prepare(folder: Path, name: str, rows: list[tuple[str, str]]) -> None:
    """Do what the page says to do with the publisher's file, which has *rows* of caption and URL."""
    [line] = [block for block in blocks(text_of(name)) if "awk" in block]
    published = shlex.split(line.replace("\\\n", " "))[-3]
    ordered = rows if name == "cc3m" else [(url, caption) for caption, url in rows]
    (folder / published).write_text("".join(f"{first}\t{second}\n" for first, second in ordered))
    subprocess.run(["sh", "-ec", line], check=True, cwd=folder)


def metadata(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(file) for file in sorted(folder.glob("*.parquet")))


def members_in(folder: Path) -> dict[str, bytes]:
    """Return what the tars hold by name; fails on a name that is there twice."""
    members: dict[str, bytes] = {}
    for file in sorted(folder.glob("*.tar")):
        with tarfile.open(file) as tar:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None
                assert member.name not in members
                members[member.name] = content.read()
    return members


def images_in(folder: Path) -> dict[str, bytes]:
    """Return the images in the tars by key, in its order."""
    members = members_in(folder)
    return {name.removesuffix(".jpg"): members[name] for name in sorted(members) if name.endswith(".jpg")}


def sizes_of(images: dict[str, bytes]) -> dict[str, tuple[int, int]]:
    return {key: Image.open(io.BytesIO(image)).size for key, image in images.items()}
