from pathlib import Path

import pytest

from batchseg.system.location import PATH_BYTES, Location, join, unreadable


@pytest.mark.parametrize("uri", ["/data/a", "file:///data/a"])
def test_local_addresses_have_a_path(uri):
    place = Location.of(uri)
    assert (place.path, place.protocol, place.is_local) == (Path("/data/a"), "file", True)
    assert str(place) == place.uri == uri


@pytest.mark.parametrize("uri", ["s3://bucket/a", "memory://a", "https://host/a.tif?file://b"])
def test_addresses_of_other_storages_have_none(uri):
    place = Location.of(uri)
    assert (place.path, place.is_local, place.protocol) == (None, False, uri.partition(":")[0])


@pytest.mark.parametrize("name", ["a:b", "über/ä ö", "a%20b", "file:a", " "])
def test_odd_names_and_relative_paths_stay_as_they_are(name):
    assert Location.of(name).path == Path(name)


def test_a_place_is_made_once():
    place = Location.of("/data/a")
    assert Location.of(place) is place


@pytest.mark.parametrize("root", ["/data", "/data/", "s3://bucket/out", "s3://bucket/out/", "."])
def test_what_lies_below_has_an_address_of_the_same_storage(root):
    below = join(root, "masks", "a b.tif")
    assert below == root.rstrip("/") + "/masks/a b.tif"
    assert Location.of(below).is_local == Location.of(root).is_local


@pytest.mark.parametrize(
    "uri",
    ["a.tif", "/a.tif", "file:///a", "s3://b/a", "gcs://b/a", "abfss://b/a", "https://h/a", "memory://a"],
)
def test_addresses_that_are_read(uri):
    assert unreadable(uri) == ""


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("a\0.tif", "NUL"),
        ("a" * (PATH_BYTES + 1), "4,097 characters"),
        ("zip://a.tif::s3://b/a.zip", "no address that is read"),
        ("ftp://h/a.tif", "no address that is read"),
        ("s3:///", "no address that is read"),
    ],
)
def test_what_can_name_no_file_is_told(uri, why):
    assert why in unreadable(uri)
