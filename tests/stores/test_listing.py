"""What lies in a folder is told whole, on however many pages the server tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from async_img2ds.storage import listing, open_store

if TYPE_CHECKING:
    import pytest

    from stores.servers import Place


def test_every_file_and_folder_is_told_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With sizes; not what lies in folders whose names begin alike; and nothing of one that is not there."""
    monkeypatch.setattr(listing, "PAGE", 3)
    root = f"{place.root}/listed"
    files = {f"{number:05d}.tar": b"x" * number for number in range(8)} | {"Grüße 1+1=2%.txt": b"hello"}
    folders = [f"{number:05d}" for number in range(4)]
    for name, content in files.items():
        place.write(f"{root}/{name}", content)
    for name in folders:
        place.write(f"{root}/{name}/000000001.jpg", b"image")
        place.write(f"{root}/{name}/000000002.jpg", b"image")
    place.write(f"{root}-more/00009.tar", b"another's")
    store = open_store(f"{root}//")
    place.write(f"{root}/empty.txt", b"")  # behind the store's first look, if it remembers anything
    first = sorted(store.names())
    place.write(f"{root}/later.txt", b"!")

    assert first == sorted([*((name, len(content)) for name, content in files.items()), ("empty.txt", 0)])
    assert sorted(store.names()) == sorted([*first, ("later.txt", 1)])
    assert sorted(store.folders()) == folders
    assert sorted(store.names("00001")) == [("000000001.jpg", 5), ("000000002.jpg", 5)]
    assert list(open_store(f"{place.root}/none-such").names()) == []


def test_files_are_removed_and_those_that_are_gone_are_no_fault(place: Place) -> None:
    """Also a thousand and more, of which some are not there; folders go with their last file."""
    root = f"{place.root}/removed"
    names = [f"00000/{number:09d}.jpg" for number in range(20)]
    for name in ["00000.tar", "00001.tar", *names]:
        place.write(f"{root}/{name}", b"image")
    store = open_store(root)
    store.remove([*names, "00000.tar", "00002.tar", *(f"00000/{number:09d}.jpg" for number in range(20, 1100))])

    assert place.files(root) == {"00001.tar": 5}
    assert list(store.folders()) == []
