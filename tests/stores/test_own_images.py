"""Images that lie in a store, read as those of the web are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stores.program import Program
from test_run import metadata, stored

if TYPE_CHECKING:
    from pathlib import Path

    from stores.servers import Place

OTHER_SCHEMES = {"s3": "s3a", "azure": "abfs", "gcs": "gcs"}


@pytest.fixture(params=sorted(OTHER_SCHEMES))
def store(request: pytest.FixtureRequest) -> Place:
    """Each of the object stores."""
    found: Place = request.getfixturevalue(request.param)
    return found


def test_images_are_read_from_a_store(store: Place, photographs: Path, tmp_path: Path) -> None:
    """Small ones, one of several megabytes, and one without a byte; what is not there or not named fails by itself."""
    large = b"".join((photographs / "coffee.png").read_bytes() for _ in range(8))
    contents = {"rocket.jpg": (photographs / "rocket.jpg").read_bytes(), "large": large, "empty.jpg": b""}
    contents |= {"exact": (photographs / "coffee.png").read_bytes()[: 2**20].ljust(2**20, b"\0")}
    for name, content in contents.items():
        store.write(f"{store.root}/own/{name}", content)
    store.write(f"{store.root}/others/rocket.jpg", contents["rocket.jpg"])
    other = OTHER_SCHEMES[store.name]
    scheme = store.root.partition("://")[0]
    rows = {
        f"{store.root}/own/rocket.jpg": "success",
        f"{other}{store.root.removeprefix(scheme)}/own/rocket.jpg": "success",
        f"{store.root}/own/large": "success",
        f"{store.root}/own/exact": "success",
        f"{store.root}/own/empty.jpg": "body_empty",
        f"{store.root}/own/none.jpg": "http_status_4xx",
        f"{store.root}/others/rocket.jpg": "source_blocked",
        f"{scheme}://no-such-bucket/own/x.jpg": "source_blocked",
    }
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in rows))
    options: dict[str, Any] = {
        "disable_all_reencoding": True,
        "output_format": "webdataset",
        "allow_sources": f"{store.root}/own",
    }
    Program(store, tmp_path).fetch(str(tmp_path / "urls.txt"), str(tmp_path / "out"), **options)
    found = {row["url"]: (row["error_class"] or row["status"], row["key"]) for row in metadata(tmp_path / "out")}
    images = stored(tmp_path / "out")

    assert {url: outcome for url, (outcome, _) in found.items()} == rows
    for name in ("rocket.jpg", "large", "exact"):
        assert images[found[f"{store.root}/own/{name}"][1]] == contents[name]


def test_bucket_that_is_not_there_is_a_404(store: Place, tmp_path: Path) -> None:
    """The list has its name, so it is the row's."""
    scheme = store.root.partition("://")[0]
    (tmp_path / "urls.txt").write_text(f"{scheme}://no-such-bucket/own/x.jpg\n")
    Program(store, tmp_path).fetch(
        str(tmp_path / "urls.txt"), str(tmp_path / "out"), output_format="webdataset", allow_sources=scheme
    )

    assert [(row["error_class"], row["http_status"]) for row in metadata(tmp_path / "out")] == [
        ("http_status_4xx", 404)
    ]


def test_container_may_be_named_with_its_account(azure: Place, photographs: Path, tmp_path: Path) -> None:
    """As Azure does; the row keeps it, and it is read where that account is named, and nowhere else."""
    account = "abfss://datasets@devstoreaccount1.dfs.core.windows.net"
    azure.write(f"{azure.root}/account/rocket.jpg", (photographs / "rocket.jpg").read_bytes())
    rows = {
        f"{account}/account/rocket.jpg": "success",
        f"{account}/other/rocket.jpg": "source_blocked",
        f"{account.replace('account1', 'account2')}/account/rocket.jpg": "source_blocked",
    }
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in rows))
    options: dict[str, Any] = {"output_format": "webdataset", "allow_sources": f"{account}/account"}
    said = Program(azure, tmp_path).fetch(str(tmp_path / "urls.txt"), str(tmp_path / "out"), **options)

    assert {row["url"]: row["error_class"] or row["status"] for row in metadata(tmp_path / "out")} == rows, said
