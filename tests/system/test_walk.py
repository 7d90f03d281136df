import os
from pathlib import Path

import fsspec
import pytest
from listings import NAMES

from batchseg.errors import SourceIOError
from batchseg.system import fetch, listing, walk


def listed(*arguments, **options) -> dict[str, tuple[int, str | None]]:
    batches = list(walk.walk(*arguments, **options))
    pairs = [(u, (s, t)) for f in batches for u, s, t in zip(f.uris, f.sizes, f.tags, strict=True)]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files at several depths, links to files and folders, a broken link, a pipe, and a name with a star."""
    root = tmp_path / "root"
    for number, name in enumerate(
        (
            "a.jpg",
            "b.PNG",
            "x/a.jpg",
            "x/y/c.jpg",
            "x/y/z/d.jpg",
            "xx/y/e.txt",
            ".h/f.jpg",
            "x/[1].jpg",
            "x/*.jpg",
        )
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * number)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "g.jpg").write_bytes(b"content")
    (root / "link.jpg").symlink_to(tmp_path / "elsewhere" / "g.jpg")
    (root / "x" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "broken.jpg").symlink_to(tmp_path / "absent")
    os.mkfifo(root / "pipe.jpg")
    return root


PATTERNS = [
    "",
    "*",
    "*.jpg",
    "x*/*.jpg",
    "x*/y/*",
    "*/y/*",
    "*/linked/*.jpg",
    "**",
    "**/*.jpg",
    "x/**/[cd].jpg",
]
PATTERNS += [
    "?/?.jpg",
    "x/[[]1].jpg",
    "x/*.jpg",
    "absent",
    "absent/*.jpg",
    "a.jpg",
    "link.jpg",
    "pipe.jpg",
    "x*/**",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_walk_finds_what_a_listing_finds(tree, pattern):
    found = listed(f"{tree}/{pattern}".rstrip("/"))
    infos = list(listing.list_files(f"{tree}/{pattern}".rstrip("/")))
    assert {uri: size for uri, (size, _) in found.items()} == {info.uri: info.size for info in infos}
    walked = [i for files in walk.walk(f"{tree}/{pattern}".rstrip("/")) for i in files.infos()]
    assert sorted(walked, key=lambda info: info.uri) == infos  # versions too: tags are made of them
    assert list(found) or pattern in ("absent", "absent/*.jpg", "pipe.jpg", "*/linked/*.jpg")
    uris = sorted(found)
    assert walk.current_tags(uris) == [found[uri][1] for uri in uris]


def test_what_is_not_wanted_and_the_output_are_not_looked_at(tree):
    class FromB(listing.Selection):
        def wants(self, folder, name):
            return name > "b"

    names = {Path(uri).name for uri in listed(str(tree), selection=FromB(), without=f"{tree}/x/y")}
    assert names == {"b.PNG", "e.txt", "f.jpg", "link.jpg", "broken.jpg"}


def test_batches_are_bounded_and_together_complete(tree, monkeypatch):
    whole = listed(str(tree))
    monkeypatch.setattr(walk, "BATCH", 2)
    assert max(len(files.uris) for files in walk.walk(str(tree))) == 2
    assert listed(str(tree)) == whole


def test_a_folder_that_is_closed_to_this_user_is_left_out(tree, monkeypatch):
    whole, real = listed(str(tree)), os.scandir

    def scandir(folder):
        if folder == str(tree / "x" / "y"):
            raise OSError(error, os.strerror(error), folder)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    error = 13
    assert listed(str(tree)) == {uri: f for uri, f in whole.items() if "/x/y/" not in uri}
    error = 5  # a disk that fails must not look like an empty folder
    with pytest.raises(SourceIOError, match="x/y"):
        listed(str(tree))


def test_a_tag_follows_size_and_time_of_the_content(tree):
    uris = [str(tree / "a.jpg"), str(tree / "link.jpg"), str(tree / "absent.jpg"), str(tree), "/zero\0byte"]
    before = walk.current_tags(uris)
    assert [tag is None for tag in before] == [False, False, True, True, True]
    (tree.parent / "elsewhere" / "g.jpg").write_bytes(b"c0ntent")
    os.utime(tree.parent / "elsewhere" / "g.jpg", ns=(1, 1))
    after = walk.current_tags(uris)
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True, True, True]


def test_many_files_are_looked_at_in_their_order(tmp_path):
    uris = [str(tmp_path / f"{number}") for number in range(1000)]
    for number in range(0, 1000, 7):
        (tmp_path / f"{number}").write_bytes(b"x" * number)
    files = walk.look(uris)
    assert files.uris == uris
    assert files.sizes == [0 if number % 7 else number for number in range(1000)]
    assert [tag is None for tag in files.tags] == [bool(number % 7) for number in range(1000)]


def test_a_bucket_is_walked_page_by_page_and_names_stay_as_they_are(bucket, monkeypatch):
    fs = fsspec.filesystem("s3")
    for folder in ("in/x 1#/", "in/x 2/", "in/other/y/"):
        for name in NAMES:
            fs.pipe_file(f"{bucket}/{folder}{name}", folder.encode())
    fs.pipe_file(f"{bucket}/in/x 2/marker/", b"")
    real = type(fs).call_s3
    monkeypatch.setattr(type(fs), "call_s3", lambda self, *a, **k: real(self, *a, **(k | {"MaxKeys": 5})))
    whole = listed(f"{bucket}/in")
    assert set(whole) == {f"{bucket}/in/{f}{n}" for f in ("x 1#/", "x 2/", "other/y/") for n in NAMES}
    walked = [info for files in walk.walk(f"{bucket}/in") for info in files.infos()]
    infos = [info for info in listing.list_files(f"{bucket}/in") if not info.uri.endswith("/")]
    assert sorted(walked, key=lambda info: info.uri) == infos
    assert {fetch.read_bytes(uri).decode() for uri in whole} == {"in/x 1#/", "in/x 2/", "in/other/y/"}
    assert listed(f"{bucket}/in/x*/*.jpg") == {uri: f for uri, f in whole.items() if "/in/x" in uri}
    assert listed(f"{bucket}/in/**/照*") == {uri: f for uri, f in whole.items() if "照" in uri}
    assert listed(f"{bucket}/absent") == listed(f"{bucket}/in/z*/*.jpg") == {}
    uris = [*whole, f"{bucket}/in/gone.jpg"]
    single = walk.current_tags(uris)
    monkeypatch.setattr(walk, "LISTED_FROM", 2)
    assert single == walk.current_tags(uris) == [*(tag for _, tag in whole.values()), None]
    fs.pipe_file(uris[0], b"in/x 9#/")
    assert walk.current_tags(uris[:1]) != single[:1]


def test_other_stores_are_walked_folder_by_folder():
    memory = fsspec.filesystem("memory")
    for name in ("walk/a.jpg", "walk/x/b.jpg", "walk/x/y/c.png"):
        memory.pipe_file(f"/{name}", b"x")
    try:
        for pattern in ("memory://walk", "memory://walk/*/*.jpg", "memory://absent"):
            assert set(listed(pattern)) == {info.uri for info in listing.list_files(pattern)}
    finally:
        memory.store.clear()
