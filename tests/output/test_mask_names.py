"""What masks are called: what each rule gives, and that no source is ever in another one's way."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.inputs.ids import NAME_BYTES
from batchseg.job.settings import SceneSet
from batchseg.output.mask_names import SUFFIXES, first_rule, mask_name, shown_rule

PIECES = (".tif", ".TIF", ".tiff", ".png", ".jpg", ".mask", ".Mask", "_", "x", "X.", "/")
"""What rules look at; whatever ids are made of them."""

SHORT = sorted(
    {
        found
        for count in range(1, 5)
        for pieces in product(PIECES, repeat=count)
        if (found := "".join(pieces)) and all(found.split("/"))
    }
)

ids = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), min_size=1).map("".join)
ids = ids.map(lambda text: "/".join(part for part in text.split("/") if part) or "x")


def found_twice(ids: list[str], names: list[str]) -> list[tuple[str, str]]:
    first: dict[str, str] = {}
    return [(first[n], i) for i, n in zip(ids, names, strict=True) if first.setdefault(n, i) != i]


def folders(name: str) -> set[str]:
    return {name[:at] for at, letter in enumerate(name) if letter == "/"}


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_no_two_short_ids_share_a_name(suffix):
    for names in ("added", "kept"):
        assert found_twice(SHORT, [mask_name(i, suffix, names) for i in SHORT]) == []
    # Nor on disks that know no case of letters, which cannot hold sources that differ by it alone.
    small = list({i.lower(): i for i in SHORT}.values())
    assert found_twice(small, [mask_name(i, suffix, "kept").lower() for i in small]) == []


@given(one=ids, other=ids, suffix=st.sampled_from(["tif", "png"]))
def test_no_two_ids_share_a_name(one, other, suffix):
    for names in ("added", "kept"):
        assert (mask_name(one, suffix, names) == mask_name(other, suffix, names)) == (one == other)


@given(found=ids, suffix=st.sampled_from(["tif", "png"]))
def test_a_name_could_not_be_that_of_a_near_id(found, suffix):
    """Those that any rule of names could mistake it for."""
    name = mask_name(found, suffix, "kept")
    near = {name, name + ".tif", name.removesuffix(f".{suffix}"), name.removesuffix(f".mask.{suffix}"), found}
    assert {one for one in near if one and mask_name(one, suffix, "kept") == name} == {found}


def test_no_mask_stands_where_another_ones_folder_is():
    names = {mask_name(i, suffix, "kept") for i in SHORT for suffix in ("tif", "png")}
    assert not names & {folder for name in names for folder in folders(name)}
    in_small = {name.lower() for name in names}
    assert not in_small & {folder for name in in_small for folder in folders(name)}


@given(found=ids, suffix=st.sampled_from(["tif", "png"]))
def test_masks_end_alike_and_fit_a_name(found, suffix):
    for names in ("added", "kept"):
        name = mask_name(found, suffix, names)
        assert name.endswith(f".{suffix}")
        parts, own = found.split("/"), name.split("/")
        assert len(parts) == len(own)
        longer = [len(b.encode()) - len(a.encode()) for a, b in zip(parts, own, strict=True)]
        assert max(longer) + NAME_BYTES + len(".aux.xml") <= 255


@pytest.mark.parametrize(
    ("source_id", "suffix", "name"),
    [
        ("a/x.tif", "tif", "a/x.tif"),
        ("LC08_2026.v2.tif", "tif", "LC08_2026.v2.tif"),
        ("a/x.TIF", "tif", "a/x.TIF.tif"),
        ("x.tiff", "tif", "x.tiff.tif"),
        ("x.jp2", "tif", "x.jp2.tif"),
        ("x.jp2.tif", "tif", "x.jp2.tif.tif"),
        ("x.JPG.tif", "tif", "x.JPG.tif.tif"),
        ("x.tif.tif", "tif", "x.tif.tif.tif"),
        ("n/x", "tif", "n/x.mask.tif"),
        ("x.mask", "tif", "x.mask.mask.tif"),
        ("x.mask.tif", "tif", "x.mask.tif.tif"),
        ("x.tif/y.tif", "tif", "x.tif_/y.tif"),
        ("x.PNG_/y.jpg", "png", "x.PNG__/y.jpg.png"),
        ("v.tif.d/y.tif", "tif", "v.tif.d/y.tif"),
        ("照 1.png", "png", "照 1.png"),
        ("x.jpg", "png", "x.jpg.png"),
        ("x.tif", "png", "x.tif.png"),
        ("x.tif.png", "png", "x.tif.png.png"),
        ("x", "png", "x.mask.png"),
        ("x.png", "tif", "x.png.tif"),
    ],
)
def test_what_ends_in_the_suffix_keeps_its_name(source_id, suffix, name):
    assert mask_name(source_id, suffix, "kept") == name
    assert mask_name(source_id, suffix, "added") == f"{source_id}.{suffix}"


def test_suffixes_stay_as_they_were():
    """Outputs that are there have names by them."""
    words = (
        ".avif .bmp .dib .gif .gtiff .heic .heif .hif .img .j2k .jfif .jp2 .jpe .jpeg .jpf .jpg .jpx .mpo "
        ".pgm .png .pnm .ppm .tif .tiff .vrt .webp"
    )
    assert " ".join(SUFFIXES) == words


def scene_set(kind, **more):
    return SceneSet(kind=kind, **more)


def test_scenes_that_are_named_get_a_suffix_where_nothing_else_is_there():
    named = [
        scene_set("bands", patterns=(("b", "/{scene}_b.tif"),)),
        scene_set("stac", path="/items.json", columns=("b",)),
        scene_set("manifest", path="/list.csv", columns=("b",), id_column="name"),
    ]
    by_path = scene_set("manifest", path="/list.csv", columns=("b",))
    assert first_rule(named) == "added"
    assert [first_rule(inputs) for inputs in (["/in/*.tif"], [*named, "/in"], [by_path])] == ["kept"] * 3


@given(st.lists(ids, unique=True), st.sampled_from(["added", "kept"]), st.sampled_from(["tif", "png"]))
def test_recorded_masks_show_their_rule(sources, names, suffix):
    masks = [(i, f"masks/{mask_name(i, suffix, names)}") for i in sources]
    alike = all(mask_name(i, suffix, "added") == mask_name(i, suffix, "kept") for i in sources)
    assert shown_rule([("without", None), *masks]) == (None if alike else names)
