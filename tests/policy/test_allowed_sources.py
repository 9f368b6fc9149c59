"""Which files and objects may be read: what the user named, and nothing that a list makes up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.errors import ErrorClass, FetchFailure, OptionsError
from async_img2ds.policy import urls
from async_img2ds.policy.sources import Sources, path_of
from async_img2ds.sources import Source, parse_source

ALL = Sources(map(parse_source, ["s3", "gs://photos/2024", "az:cats", "file:/data/images"]))


def refusal(url: str | None, sources: Sources = ALL) -> FetchFailure:
    with pytest.raises(FetchFailure) as caught:
        sources.parse(url)
    return caught.value


@pytest.mark.parametrize(
    ("listed", "host", "path"),
    [
        ("s3://bucket/a/b.jpg", "s3://bucket", "bucket/a/b.jpg"),
        ("S3A://bucket/a b?c#d%20é.jpg", "s3://bucket", "bucket/a b?c#d%20é.jpg"),
        (" s3://bucket/a::file:///etc/passwd\n", "s3://bucket", "bucket/a::file:///etc/passwd"),
        ("gs://photos/2024/x.jpg", "gs://photos", "photos/2024/x.jpg"),
        ("gcs://photos/2024/x.jpg", "gs://photos", "photos/2024/x.jpg"),
        ("abfs://cats/x.jpg", "az://cats", "cats/x.jpg"),
        ("/data/images/a b%20c.jpg", "file:///data/images", "/data/images/a b%20c.jpg"),
        ("file:///data/images/a%20b.jpg", "file:///data/images", "/data/images/a b.jpg"),
        ("FILE:///data/images/x.jpg", "file:///data/images", "/data/images/x.jpg"),
        ("file:/data/images/a%20b.jpg", "file:///data/images", "/data/images/a b.jpg"),
        ("file://localhost/data/images/x.jpg", "file:///data/images", "/data/images/x.jpg"),
    ],
)
def test_what_is_named_is_read(listed: str, host: str, path: str) -> None:
    """A key is what stands behind the bucket, whatever is in it; a URL of a file is quoted, and a path is not."""
    target = ALL.parse(listed)

    assert path_of(target) == path
    assert target.host == host
    assert urls.is_address(target.host)  # so that nobody looks it up


@pytest.mark.parametrize(
    "listed",
    [
        *(
            "file:///etc/passwd",
            "/etc/passwd",
            "/data/images2/x.jpg",
            "file:///data/images/../secret",
            "/data/images/..",
        ),
        *("file:///data/images/%2e%2e/secret", "/data/images/a/../../secret", "/data/images/./x.jpg"),
        *(
            "gs://other/x.jpg",
            "gs://photos/2023/x.jpg",
            "gs://photos/2024",
            "gs://photos/2024x/y.jpg",
            "az://dogs/x.jpg",
        ),
        *("s3://bucket/../other/x.jpg", "s3://bucket/a/../x.jpg"),
    ],
)
def test_what_lies_elsewhere_is_blocked(listed: str) -> None:
    """Beside, above, in a folder whose name begins alike, or by dots."""
    assert refusal(listed).error_class is ErrorClass.SOURCE_BLOCKED


@pytest.mark.parametrize(
    "listed",
    [
        *("s3://", "s3://bucket", "s3://bucket/", "s3:///x.jpg", "s3://bucket/folder/", "az://cats@account.example/x"),
        *("s3://$web/x.jpg", "s3://-/x.jpg", "gs://$web/x.jpg", "az://a.b/x.jpg", "s3://b@acct.dfs.core.windows.net/x"),
        *("s3://arn:aws:s3:us-east-1:1:accesspoint/x/y", "s3://buc ket/x.jpg", "s3://user:password@bucket/x.jpg"),
        *("s3://bucket/x\x00.jpg", "/data/images/x\n.jpg", "/data/images/", "s3://" + "b" * 20_000),
    ],
)
def test_what_is_malformed_is_no_url(listed: str) -> None:
    """A bucket is a plain name, and something lies in it."""
    assert refusal(listed).error_class in (ErrorClass.URL_INVALID, ErrorClass.URL_SCHEME)


@pytest.mark.parametrize(
    "listed",
    [
        *("file://host/data/images/x.jpg", "file://localhosts/data/images/x.jpg", "file://me@localhost/data/x.jpg"),
        *("file://localhost//data/images/x.jpg", "file://localhost:80/data/images/x.jpg"),
        *("file:data/images/x.jpg", "file:////data/images/x.jpg", "//data/images/x.jpg", "data/images/x.jpg"),
        *("local:///data/images/x.jpg", "local:/data/images/x.jpg", "memory://x.jpg", "memory:/x.jpg"),
        *("simplecache::s3://bucket/x.jpg", "filecache::file:///data/images/x.jpg", "zip://x.jpg::file:///data/a.zip"),
        *("tar://x::s3://bucket/a.tar", "ssh://host/data/images/x.jpg", "sftp://host/x", "hdfs://host/x", "hf://x/y"),
        *("github://a:b@c/x.jpg", "reference://x", "arrow_hdfs://x", "dir::file:///data/images/x.jpg", "root://x"),
        *("blockcache::https://h.example/x.jpg", "s3:bucket/x.jpg", "C:\\data\\images\\x.jpg", "~/x.jpg", "", None),
    ],
)
def test_what_is_no_source_is_what_it_was(listed: str | None) -> None:
    """It fails as it does where nothing is allowed: other file systems, chains of them, other machines."""
    assert refusal(listed).error_class is refusal(listed, Sources()).error_class
    assert refusal(listed).error_class in (ErrorClass.URL_INVALID, ErrorClass.URL_SCHEME)


@pytest.mark.parametrize("listed", ["s3://bucket/x.jpg", "file:///data/images/x.jpg", "/data/images/x.jpg", "gs://b/x"])
def test_nothing_is_read_unless_it_is_allowed(listed: str) -> None:
    """By default there is only the web; and a kind that is not named is not opened by another."""
    with pytest.raises(FetchFailure) as as_before:
        urls.parse(listed)
    for sources in (Sources(), Sources([Source("az", "")])):
        assert refusal(listed, sources).error_class is as_before.value.error_class
        assert refusal(listed, sources).message == as_before.value.message


def test_urls_of_the_web_are_what_they_are() -> None:
    """Whatever is allowed beside them."""
    assert ALL.parse("https://h.example/x.jpg") == urls.parse("https://h.example/x.jpg")


def test_host_of_an_object_is_the_choice_of_the_user() -> None:
    """A row does not choose it, by an account or by the zone in the name of a bucket, unless its place is named."""
    account = "abfss://cats@account1.dfs.core.windows.net"
    everything, named = (
        Sources(map(parse_source, ["s3", "az"])),
        Sources(map(parse_source, [account, "s3://a--x--x-s3"])),
    )

    for url in (f"{account}/x.jpg", "s3://a--x--x-s3/x.jpg"):
        assert refusal(url, everything).error_class is ErrorClass.SOURCE_BLOCKED
    assert path_of(named.parse(f"{account}/x.jpg")) == "cats@account1.dfs.core.windows.net/x.jpg"
    assert path_of(named.parse("s3://a--x--x-s3/x.jpg")) == "a--x--x-s3/x.jpg"
    assert refusal(f"{account.replace('1', '2')}/x.jpg", named).error_class is ErrorClass.SOURCE_BLOCKED
    assert refusal("az://cats/x.jpg", named).error_class is ErrorClass.SOURCE_BLOCKED


@pytest.mark.parametrize("url", ["s3://bucket/x.jpg", "/data/x.jpg", "file:/data/x.jpg", "gs://photos/2024/x.jpg"])
def test_what_is_closed_names_a_file_or_an_object(url: str) -> None:
    """And none that is allowed; a URL of the web never is, and neither is what is none at all."""
    assert Sources().is_closed(url)
    assert not Sources(map(parse_source, ["s3", "gs://photos", "file:/data"])).is_closed(url)
    for other in ("https://h.example/x.jpg", "x.jpg", "ftp://h.example/x", "", None):
        assert not Sources().is_closed(other)


def test_no_redirect_leads_to_a_source() -> None:
    """A server of the web does not choose what is read here."""
    for location in ("s3://bucket/x.jpg", "file:///data/images/x.jpg"):
        with pytest.raises(FetchFailure) as caught:
            urls.redirect(urls.parse("https://h.example/"), location)
        assert caught.value.error_class is ErrorClass.REDIRECT_BLOCKED


@given(st.text() | st.from_regex(r"(s3|gs|az|file)://(/data/images|photos|cats)?[./%a-z0-9:@?#\\ ]*", fullmatch=True))
def test_any_text_is_read_or_refused(listed: str) -> None:
    """And what is read lies where it may."""
    try:
        target = ALL.parse(listed)
    except FetchFailure:
        return
    path = path_of(target)

    assert target.scheme in ("http", "https", "s3", "gs", "az", "file")
    assert ".." not in path.split("/")
    assert target.scheme != "file" or path.startswith("/data/images/")
    assert target.scheme != "gs" or path.startswith("photos/2024/")
    assert target.scheme != "az" or path.startswith("cats/")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("s3", Source("s3", "")),
        ("s3a", Source("s3", "")),
        ("s3://bucket", Source("s3", "bucket")),
        ("s3:bucket/folder/", Source("s3", "bucket/folder")),
        ("gcs://bucket//", Source("gs", "bucket")),
        ("abfs:cats", Source("az", "cats")),
        ("abfss://c@acct.blob.core.windows.net/a/", Source("az", "c@acct.blob.core.windows.net/a")),
        ("file:/data/images", Source("file", "/data/images")),
        ("file:///data/my%20images/", Source("file", "/data/my images")),
        ("file:/data/images/../cats", Source("file", "/data/cats")),
        ("file:/data/50%20", Source("file", "/data/50%20")),
    ],
)
def test_sources_are_read_as_people_type_them(typed: str, meant: Source) -> None:
    """With one slash or three, and without care for those at the end."""
    assert parse_source(typed) == meant


@pytest.mark.parametrize(
    "typed",
    [
        *("file", "file:", "file:/", "file:///", "file:images", "/data/images", "http", "ssh", "memory", "local"),
        *("s3://*", "gs://photos-[0-9]/x", "s3://me:secret@bucket", "az://c@account", "az://_"),
        *("s3:a/../b", "file://host/data", "zip", "simplecache::s3", "", "S3 bucket"),
    ],
)
def test_what_opens_too_much_is_refused(typed: str) -> None:
    """The whole machine, another one, or nobody knows what."""
    with pytest.raises(OptionsError, match="allow_sources takes"):
        parse_source(typed)
