"""Listings of the URLs of folders: what they hold, how often they are asked for, and bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import mapix
from mapix.remote import listing
from mapix.source import is_file, is_listed, scan

URL = "s3://bucket/d/"
KEYS = {
    "train": 5, "a/x.png": 1, "a/b/y.png": 1, "empty.txt": 0, "both": 3, "both/z": 1,
    "marked": 0, "marked/m": 1, "c//odd": 1, "c/../odd": 1, "/odd": 1, "folder/": 0,
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders that were listed, and each name that was taken from the server."""
    found: list[str] = []

    def names_below(url: str) -> Iterator[tuple[str, int]]:
        found.append(url)
        below = url.removeprefix(URL)
        return (
            (found.append(key) or key.removeprefix(below), nbytes)
            for key, nbytes in KEYS.items()
            if key.startswith(below)
        )

    listing._known.clear()
    monkeypatch.setattr(listing, "names_below", names_below)
    return found


def listed(url: str) -> set[tuple[str, str, bool, bool]]:
    with scan(url) as entries:
        return {(e.name, e.path.removeprefix(URL), e.is_dir(), e.is_file()) for e in entries}


def test_files_and_folders(asked: list[str]) -> None:
    assert listed(URL) == {
        ("train", "train", False, True),
        ("empty.txt", "empty.txt", False, True),
        ("a", "a/", True, False),
        ("both", "both", False, True),
        ("both", "both/", True, False),
        ("marked", "marked/", True, False),  # its empty object is the folder's
    }
    assert listed(URL + "a") == {("x.png", "a/x.png", False, True), ("b", "a/b/", True, False)}
    assert listed(URL + "a/b/") == {("y.png", "a/b/y.png", False, True)}
    assert listed(URL + "nothing/") == set()
    assert [is_file(URL + name) for name in ("train", "a/x.png", "both", "marked", "a", "q")] == [
        *(True, True, True, False, False, False)
    ]
    assert asked == [URL, *KEYS], "one listing answers for all that is below it"


def test_a_listing_is_asked_for_again_after_some_seconds(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(listing.time, "monotonic", lambda: now)
    assert listed(URL + "a/")
    now += listing.LISTED_S - 0.1
    assert listed(URL + "a/")
    assert asked.count(URL + "a/") == 1
    now += 0.2
    assert is_listed(URL + "a/")
    assert asked.count(URL + "a/") == 2


def test_listings_are_bounded(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "FIRST_NAMES", 2)
    monkeypatch.setattr(listing, "MOST_NAMES", 4)
    monkeypatch.setattr(listing, "MOST_KNOWN", 2)
    assert is_listed(URL)
    assert asked == [URL, "train", "a/x.png"], "opening asks for the first names alone"
    assert is_file(URL + "train")
    assert listing.is_there(URL + "both") is None, "it may come later"
    with pytest.raises(mapix.LimitError, match=r"s3://bucket/d/: more than 4 objects are below"):
        listed(URL)
    assert len(asked) == 1 + 5
    assert listed(URL + "a/")  # a part of it
    assert listed(URL + "both/")
    assert len(listing._known) == 2


def test_a_listing_that_broke_off_is_asked_for_again(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = listing.names_below

    def broken(url: str) -> Iterator[tuple[str, int]]:
        yield from list(whole(url))[:3]
        raise ConnectionResetError(url)

    monkeypatch.setattr(listing, "FIRST_NAMES", 2)
    monkeypatch.setattr(listing, "names_below", broken)
    assert is_listed(URL)
    with pytest.raises(ConnectionResetError):
        listed(URL)
    monkeypatch.setattr(listing, "names_below", whole)
    assert len(listed(URL)) == 6


def test_a_listing_that_was_refused_later_is_an_error_in_all_threads(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused_later(url: str) -> Iterator[tuple[str, int]]:
        yield from (("a", 1), ("b", 1))
        raise PermissionError(url)

    monkeypatch.setattr(listing, "FIRST_NAMES", 1)
    monkeypatch.setattr(listing, "names_below", refused_later)
    assert is_listed(URL)
    known = listing._known[URL]
    with pytest.raises(PermissionError):
        listed(URL)
    with pytest.raises(OSError, match="another thread"):  # of one that waited for the lock
        known.reach(9)


def refused(url: str) -> Iterator[tuple[str, int]]:
    raise PermissionError(url)
    yield


@pytest.mark.parametrize("names", [refused, lambda url: None])
def test_servers_that_do_not_list(
    names: Callable[[str], Iterator[tuple[str, int]] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    listing._known.clear()
    monkeypatch.setattr(listing, "names_below", names)
    assert not is_listed(URL)
    with pytest.raises(PermissionError, match="does not list what is below it"):
        listed(URL)
