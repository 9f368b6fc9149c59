"""What each option accepts, in values and in words, and how it refuses the rest."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import pickle
from collections import Counter
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds import download
from async_img2ds.errors import OptionsError
from async_img2ds.nets import Proxy, parse_net, parse_proxy
from async_img2ds.options import DEFAULT_DISALLOWED_DIRECTIVES, GROUPS, INPUT_FORMATS, POSITIONAL, Options, flags
from async_img2ds.policy.schema import Columns

if TYPE_CHECKING:
    from async_img2ds.flags import Flag

FLAGS = list(flags())
FOUR = set(DEFAULT_DISALLOWED_DIRECTIVES)
ANYTHING = st.text() | st.integers() | st.floats() | st.lists(st.text()) | st.none() | st.just(10**400)
EXAMPLES: dict[type, list[Any]] = {str: [Path("x")], int: [7], float: [2.5, 3], bool: [True], tuple: [[], ["a", "b c"]]}
every_flag = pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)


def of(**keywords: Any) -> Options:
    return Options.of(**{"url_list": "list.parquet", "input_format": "parquet"} | keywords)


def refusal(**keywords: Any) -> str:
    with pytest.raises(OptionsError) as caught:
        of(**keywords)
    return str(caught.value)


def impossible(flag: Flag) -> list[Any]:
    """Values that an option of this kind cannot have."""
    values: list[Any] = [object(), b"x", {"a": 1}, *([] if flag.optional or flag.default == () else [None])]
    if flag.choices:
        return [*values, "nonsense", "", 1, True, flag.choices[0] + "x"]
    if flag.kind in (int, float):
        values += [1.5, "1.5", math.inf, "inf", "0x10"] if flag.kind is int else []
        values += [beyond for beyond in (flag.least - 1, flag.most + 1) if math.isfinite(beyond)]
        return [*values, "", "many", "1,5", True, [1], math.nan, "nan"]
    if flag.whole:
        values += [[], "[]"] if flag.required else []
        return [*values, 1, [1], [None], [""], "", ["a", ""], {"a"}]
    if flag.kind is tuple:
        return [*values, 1, [1], [None], [""], "", '["a", 1]', "a,,b", {"a"}]
    return [*values, "", *(["x", 2, 1.5] if flag.kind is bool else [1, ["x"]])]


@every_flag
def test_impossible_value_is_refused_in_words_that_help(flag: Flag) -> None:
    """A refusal names the option, what it takes, and what it was given."""
    for value in impossible(flag):
        got = "" if flag.secret else f"; got {value!r}"
        said = refusal(**{flag.name: value})
        assert said.partition(", which may mean ")[0] == f"{flag.name} takes {flag.accepts}{got}"


REFUSALS = {
    ("image_size", "big"): "image_size takes a whole number of at least 1 and at most 65500; got 'big'",
    ("timeout", 0): "timeout takes a number above 0 and at most 86400; got 0",
    ("processes_count", 0): "processes_count takes a whole number of at least 1, or None; got 0",
    ("encode_format", "gif"): "encode_format takes jpg, png or webp; got 'gif'",
    ("input_format", "parkett"): (
        f"input_format takes {', '.join(INPUT_FORMATS[:-1])} or {INPUT_FORMATS[-1]}; "
        "got 'parkett', which may mean parquet"
    ),
    ("compute_hash", "crc"): "compute_hash takes md5, sha256 or sha512, or None; got 'crc'",
    ("save_additional_columns", 5): 'save_additional_columns takes a list such as ["a","b"], or []; got 5',
}


@pytest.mark.parametrize(("name", "value"), REFUSALS)
def test_refusals_read_like_this(name: str, value: object) -> None:
    """One example of each kind."""
    assert refusal(**{name: value}) == REFUSALS[name, value]


@given(value=ANYTHING, flag=st.sampled_from(FLAGS))
def test_any_value_is_taken_or_refused(value: object, flag: Flag) -> None:
    """No value, however odd, ends in another error; what is taken is of the option's type."""
    try:
        taken = flag.accept(value)
    except OptionsError:
        return

    assert isinstance(taken, (flag.kind, type(None)) if flag.optional else flag.kind)
    assert flag.accept(taken) == taken


LISTS = {
    "one path": ("a.txt", ("a.txt",)),
    "a comma is part of a path": ("a,b.txt", ("a,b.txt",)),
    "a space is part of a path": (" a.txt", (" a.txt",)),
    "no word is special": ("none", ("none",)),
    "a pattern may begin with a bracket": ("[ab]*.txt", ("[ab]*.txt",)),
    "a folder may be called like a list of numbers": ("[1]", ("[1]",)),
    "a list in words": (' ["a,b.txt", "s3://c/d"]', ("a,b.txt", "s3://c/d")),
    "a list in words as Python writes it": ("['a.txt', 'b.txt']", ("a.txt", "b.txt")),
    "a path object": (Path("a") / "b.txt", ("a/b.txt",)),
    "several": ([Path("a.txt"), "b.txt"], ("a.txt", "b.txt")),
    "a tuple": (("b.txt", "a.txt"), ("b.txt", "a.txt")),
}


@pytest.mark.parametrize(("value", "paths"), LISTS.values(), ids=LISTS)
def test_list_of_urls_is_one_path_or_several(value: object, paths: tuple[str, ...]) -> None:
    """A single text is one path, whatever is in it; several come in a list."""
    assert of(url_list=value).input.url_list == paths


@pytest.mark.parametrize("name", ["user_agent_token", "contact"])
def test_text_that_cannot_be_sent_in_a_header_is_refused(name: str) -> None:
    """What becomes part of the User-Agent is one line."""
    for text in ("a\nb", "a\r\nX-Other: b", "a\x00b"):
        assert refusal(**{name: text}).startswith(f"{name} ")


@pytest.mark.parametrize(("name", "near"), [("image_sise", "image_size"), ("Timeout", "timeout"), ("retry", "retries")])
def test_unknown_option_is_refused_with_the_near_one(name: str, near: str) -> None:
    """A slip of the pen is told what was meant; nothing is suggested where nothing is near."""
    assert refusal(**{name: 1}) == f"there is no option {name!r}; did you mean {near!r}?"
    assert refusal(zzzz=1) == "there is no option 'zzzz'"


def test_list_of_urls_is_the_one_thing_required() -> None:
    """Everything else has a default."""
    with pytest.raises(OptionsError, match="url_list is required"):
        Options.of(image_size=1)

    assert [flag.name for flag in FLAGS if flag.required] == ["url_list"]


@every_flag
def test_words_and_values_mean_the_same(flag: Flag) -> None:
    """What is typed on a command line gives what the value gives in Python."""
    values: list[Any] = [*flag.choices, *([None] if flag.optional else []), *([] if flag.required else [flag.default])]
    values += [] if flag.choices else [value for value in EXAMPLES[flag.kind] if value != [] or not flag.required]
    for value in values:
        words = json.dumps(value) if isinstance(value, list | tuple) else str(value)

        assert flag.accept(words) == flag.accept(value)

    several = isinstance(flag.default, tuple)
    assert [flag.accept(choice.upper()) for choice in flag.choices] == [
        (choice,) if several else choice for choice in flag.choices
    ]
    assert flag.required or flag.accept(flag.default) == flag.default


@pytest.mark.parametrize(
    ("words", "read"),
    [
        *(
            ("None", ()),
            ("null", ()),
            ("[]", ()),
            ("[ ]", ()),
            ("()", ()),
            ('["a","b"]', ("a", "b")),
            ("['a', 'b']", ("a", "b")),
        ),
        *(
            ("[a, b]", ("a", "b")),
            ("a,b", ("a", "b")),
            ("a", ("a",)),
            (' ["a"] ', ("a",)),
            (["a"], ("a",)),
            ("('a', 'b')", ("a", "b")),
        ),
        *((("a", "b"), ("a", "b")), (None, ()), ("['a,b']", ("a,b",))),
    ],
)
def test_lists_may_be_spelled_in_these_ways(words: object, read: tuple[str, ...]) -> None:
    """Python and JSON lists, bare words, and nothing."""
    assert of(save_additional_columns=words).input.save_additional_columns == read


@pytest.mark.parametrize("words", ["[::1]:53", "[::1]:53,8.8.8.8", "8.8.8.8,[::1]:53", "[::1]:53,[::2]", "[::1],[::2]"])
def test_address_in_brackets_is_no_list(words: str) -> None:
    """The brackets of an IPv6 address are its own."""
    assert of(dns_servers=words).fetch.dns_servers == tuple(words.split(","))


@pytest.mark.parametrize(
    ("chosen", "directives"),
    [(None, FOUR), ("None", FOUR), ("[]", set()), ([], set()), ("a", {"a"}), ('["NoAI", " noml "]', {"noai", "noml"})],
)
def test_none_is_the_default_directives_and_an_empty_list_is_none_at_all(chosen: object, directives: set[str]) -> None:
    """Not to choose is not to choose nothing."""
    assert of(disallowed_header_directives=chosen).fetch.directives == directives


@pytest.mark.parametrize(("encode_format", "most"), [("jpg", 100), ("png", 9)])
def test_quality_ends_where_the_format_ends_it(encode_format: str, most: int) -> None:
    """A jpg's quality ends at 100, a png's compression at 9; a webp above 100 is lossless."""
    assert of(encode_format=encode_format, encode_quality=most).image.encode_quality == most
    assert f"encode_quality for {encode_format} is a " in refusal(encode_format=encode_format, encode_quality=most + 1)
    assert of(encode_format="webp", encode_quality=most + 1).image.encode_quality == most + 1
    assert "0 to 9" in refusal(encode_format="png")  # the default is a jpg's


@pytest.mark.parametrize("digest", ["md5", "sha256", "sha512"])
def test_columns_of_the_dataset_cannot_be_carried(digest: str) -> None:
    """A column of the list never takes the name of one that the dataset itself has."""
    for name in ("url", "caption", *(field.name for field in Columns(exif=True, digest=digest).fields())):
        assert f"cannot carry {name!r}" in refusal(save_additional_columns=["fine", name])


def test_column_of_boxes_is_carried_like_others() -> None:
    """It comes last, once, and cannot have the name of a column of the dataset either."""
    assert of(bbox_col="boxes").input.carried_columns == ("boxes",)
    assert of(bbox_col="boxes", save_additional_columns=["a"]).input.carried_columns == ("a", "boxes")
    assert of(bbox_col="boxes", save_additional_columns=["boxes", "a"]).input.carried_columns == ("boxes", "a")
    assert of().input.carried_columns == ()
    assert "bbox_col cannot carry 'width'" in refusal(bbox_col="width")
    assert "bbox_col cannot carry 'jpg'" in refusal(bbox_col="jpg", output_format="parquet")


def test_column_of_the_images_cannot_be_carried() -> None:
    """In parquet and tfrecord output the images are named like their format, and in tfrecord the captions txt."""
    webp = {"save_additional_columns": ["webp"], "encode_format": "webp"}
    txt = {"save_additional_columns": ["txt"], "input_format": "csv", "output_format": "tfrecord"}

    assert "save_additional_columns" in refusal(**webp, output_format="parquet")
    assert "save_additional_columns" in refusal(**webp, output_format="tfrecord")
    assert of(**webp, output_format="files").input.save_additional_columns == ("webp",)
    assert "save_additional_columns" in refusal(**txt, caption_col="caption")
    assert of(**txt).input.save_additional_columns == ("txt",)


def test_image_column_for_hugging_face_needs_a_column() -> None:
    """The option is refused with a format that has no column of images."""
    assert of(output_format="parquet", hf_image=True).output.hf_image
    for output_format in ("files", "webdataset", "tfrecord", "dummy"):
        assert "output_format parquet" in refusal(output_format=output_format, hf_image=True)


def test_contradictions_are_refused() -> None:
    """Options that cannot hold together are refused before work begins."""
    assert "a txt list has URLs only" in refusal(input_format="txt", bbox_col="boxes")
    assert "cannot be blurred" in refusal(bbox_col="boxes", disable_all_reencoding=True)
    assert "nothing is changed" in refusal(convert_to_srgb=True, disable_all_reencoding=True)
    assert "nothing is changed" in refusal(apply_exif_orientation=True, disable_all_reencoding=True)
    assert "names a column twice" in refusal(save_additional_columns=["a", "b", "a"])
    assert "a txt list has URLs only" in refusal(input_format="txt", caption_col="text")
    assert "a txt list has URLs only" in refusal(input_format="txt", save_additional_columns=["a"])


def test_options_may_go_by_position_in_the_order_of_img2dataset() -> None:
    """A call that names none of them means the same."""
    options = Options.of("list.parquet", 384, "out", 3, "keep_ratio", input_format="parquet")

    assert (options.input.url_list, options.image.image_size, options.output.output_folder) == (
        ("list.parquet",),
        384,
        "out",
    )
    assert (options.run.processes_count, options.image.resize_mode) == (3, "keep_ratio")
    with pytest.raises(OptionsError, match="image_size is given twice"):
        Options.of("list.txt", 384, image_size=384)
    with pytest.raises(OptionsError, match="at most 38 options can be given by position"):
        Options.of(*range(39))


def test_signature_of_download_is_its_options() -> None:
    """What help() and a notebook show has each option with its default, img2dataset's first."""
    shown = inspect.signature(download).parameters

    assert set(shown) == {flag.name for flag in FLAGS}
    assert [name for name, one in shown.items() if one.kind is not one.KEYWORD_ONLY] == list(POSITIONAL)
    assert shown["image_size"].default == 256


def test_list_of_the_caller_is_left_alone() -> None:
    """What is passed in is neither changed nor kept."""
    options = of(save_additional_columns=(columns := ["a", "b"]))
    columns.append("c")

    assert columns == ["a", "b", "c"]
    assert options.input.save_additional_columns == ("a", "b")


@pytest.mark.parametrize(
    ("text", "network", "port"),
    [
        *(("127.0.0.0/8", "127.0.0.0/8", None), ("127.0.0.1", "127.0.0.1/32", None), ("::1:80", "::1:80/128", None)),
        *(("127.0.0.1:8080", "127.0.0.1/32", 8080), ("10.1.2.3/8", "10.0.0.0/8", None), (" ::1 ", "::1/128", None)),
        *(("10.1.2.3/32:8080", "10.1.2.3/32", 8080), ("[::1]/128:80", "::1/128", 80), ("[::1]:80", "::1/128", 80)),
        *(("[::1]", "::1/128", None), ("fd00::/8", "fd00::/8", None), ("FD00::/8:1", "fd00::/8", 1)),
    ],
)
def test_net_is_read_with_its_port(text: str, network: str, port: int | None) -> None:
    """A network, or one address, with or without a port."""
    assert parse_net(text) == (ip_network(network), port)
    assert of(allow_net=[text]).fetch.allow_net == (text,)


@pytest.mark.parametrize(
    "text",
    [
        *("localhost", "10.0.0", "10.0.0.256", "10.0.0.0/33", "::1/129", "10.0.0.1/8/8", "10.0.0.1:", "10.0.0.1:0"),
        *("10.0.0.1:65536", "10.0.0.1:-1", "10.0.0.1:http", "10.0.0.1/", "[::1", "::1]", "[::1]80", ":80", "/8", "*"),
        *("10.0.0.0-10.0.0.9", "http://10.0.0.1/", "fe80::1%eth0"),
    ],
)
def test_what_is_no_net_is_refused(text: str) -> None:
    """A net that opens nothing, or not what was meant, is noticed before work begins."""
    assert refusal(allow_net=[text]).startswith("allow_net takes networks such as ")


def test_no_two_groups_have_an_option_of_one_name() -> None:
    """Options are given flat, so a name belongs to one group."""
    names = Counter(field.name for group in GROUPS.values() for field in dataclasses.fields(group))

    assert set(names.values()) == {1}
    assert list(names) == [flag.name for flag in FLAGS]


@every_flag
def test_every_option_has_a_help_text(flag: Flag) -> None:
    """Help is one sentence or more on one line, and short enough to be read."""
    assert flag.help.endswith(".")
    assert flag.help == " ".join(flag.help.split())
    assert 10 < len(flag.help) < 200


def test_options_survive_pickling() -> None:
    """Options travel to other processes."""
    options = of(save_additional_columns=["a"], allow_net=["::1"], max_image_area=1e6, compute_hash=None)

    assert pickle.loads(pickle.dumps(options)) == options  # noqa: S301  our own bytes


@pytest.mark.parametrize("group", GROUPS)
def test_options_do_not_change(group: str) -> None:
    """What was checked stays as it was."""
    for record, name in ((of(), group), (getattr(of(), group), dataclasses.fields(GROUPS[group])[0].name)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, name, "x")


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy.test:3128", Proxy("proxy.test", 3128)),
        ("http://[::1]:8080/", Proxy("::1", 8080)),
        ("http://me:s%40fe@proxy.test:80", Proxy("proxy.test", 80, "Basic bWU6c0BmZQ==")),
    ],
)
def test_proxy_is_read(text: str, proxy: Proxy) -> None:
    """With who asks, which is not shown."""
    assert parse_proxy(text) == proxy
    assert "bWU6" not in repr(proxy)


@pytest.mark.parametrize(
    "text", ["proxy.test:3128", "https://proxy.test:1", "http://proxy.test", "http://me:secret@x:y", "http://a:1/b"]
)
def test_what_is_no_proxy_is_refused_without_its_password(text: str) -> None:
    """In words that say what is one."""
    said = refusal(proxy=text)

    assert said == "proxy takes http://host:port, with user:password@ before the host if it asks for that"


def test_rows_under_way_may_be_said_to_choose_themselves() -> None:
    """In the word that people know from elsewhere."""
    assert of(thread_count="auto").fetch.thread_count is None
    assert of(thread_count="64").fetch.thread_count == 64
    assert refusal(thread_count="many") == "thread_count takes a whole number of at least 1, or auto; got 'many'"


def test_secrets_are_not_shown() -> None:
    """Neither in what options look like nor in what is said of those that are refused."""
    options = of(header="Authorization: Bearer hunter2", proxy="http://me:hunter2@proxy.test:1")

    assert "hunter2" not in repr(options)
    for refused in ({"header": {"Authorization": "hunter2"}}, {"header": "hunter2"}, {"proxy": b"hunter2"}):
        assert "hunter2" not in refusal(**refused)


def test_version_of_ip_may_be_a_number() -> None:
    """As anybody would write it in Python."""
    assert of(ip_version=4).fetch.ip_version == "4"


@pytest.mark.parametrize("word", ["memory", "memory=", "=2", "memory=lots", "memory=0", "memory=-1", "GPU=1", "CPU=2"])
def test_resource_that_ray_could_not_give_is_refused(word: str) -> None:
    """And how one is written is said."""
    with pytest.raises(OptionsError, match="ray_resources"):
        Options.of(url_list="urls.txt", ray_resources=[word])


def test_resources_are_read_as_numbers() -> None:
    """Repeated or as a list."""
    options = Options.of(url_list="urls.txt", ray_resources=["memory=4e9", "scratch = 1"])

    assert options.run.resources == {"memory": 4e9, "scratch": 1.0}
