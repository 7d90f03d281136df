"""`merge` and `sieve` by name and by id, and what a product of them is called."""

import pytest
from factories import make_config, make_facts, make_package, make_product, write_job

from batchseg.errors import ConfigError
from batchseg.job.cleaning import VACANT, Cleaning, Merge, make_cleaning
from batchseg.job.file import load_job
from batchseg.job.resolve import make_product as product_of
from batchseg.job.resolve import make_recipe
from batchseg.job.settings import RegionOptions

CLASSES = make_product("building", "land", "road", "trees", "water").classes
BUILT = ("built", ("road", "building"))


def regions(**changes) -> RegionOptions:
    return RegionOptions(
        **({"min_area": 1, "simplify": 0.0, "classes": None, "max_vertices": 1000} | changes)
    )


def product(*merge, sieve=0, options=None, classes=CLASSES):
    config = make_config(classes=classes, merge=merge, sieve=sieve, regions=options)
    facts = make_facts(class_count=len(classes))
    return product_of(config, make_recipe(config, make_package(), facts, "cpu"))


def test_a_job_without_them_cleans_nothing():
    assert make_cleaning(make_config(), CLASSES) is None
    assert product().cleaning is None
    assert product().predicted_classes == product().classes == CLASSES


def test_merged_classes_have_the_lowest_id_its_colour_and_the_new_name():
    merged = product(BUILT, ("green", (3, "land")))
    assert [info.name for info in merged.classes] == ["built", "green", "", "", "water"]
    assert [merged.classes[n].color for n in (0, 1, 4)] == [CLASSES[n].color for n in (0, 1, 4)]
    assert merged.classes[2] == VACANT
    assert merged.predicted_classes == CLASSES
    assert merged.cleaning is not None
    assert [merge.ids for merge in merged.cleaning.merges] == [(0, 2), (1, 3)]


def test_a_merge_may_keep_the_name_of_a_member():
    assert product(("road", ("building", "road"))).class_names == ("road", "land", "", "trees", "water")


def test_the_rest_of_the_job_names_the_merged_class():
    found = product(BUILT, options=regions(classes=("built", "water"))).regions
    assert found is not None
    assert found.classes == (0, 4)
    with pytest.raises(ConfigError, match=r"'road' is not among the job's classes \(built, land, trees"):
        product(BUILT, options=regions(classes=("road",)))


@pytest.mark.parametrize(
    ("merge", "said"),
    [
        ([("built", ("building", "raod"))], r"merge: built: 'raod' is not among .*Perhaps you meant 'road'"),
        ([("built", (0, 9))], r"merge: built: 9 is no class id; there are 0\.\.4"),
        ([("built", ("building", 0))], "merge: built: a class is named twice in building, 0"),
        ([BUILT, ("way", ("road", "land"))], r"'road' is in 'built' and in 'way'; .*\(building, land, road"),
        ([("water", ("building", "road"))], "'water' is another of the job's classes"),
    ],
)
def test_names_that_lead_nowhere_are_refused(merge, said):
    with pytest.raises(ConfigError, match=said):
        product(*merge)


def test_classes_that_nobody_names_cannot_be_merged():
    with pytest.raises(ConfigError, match="merge: built: nobody names the model's classes"):
        make_cleaning(make_config(merge=(("built", (0, 1)),)), ())
    assert make_cleaning(make_config(sieve=9), ()) == Cleaning(classes=(), sieve=9)


def test_pixels_touch_as_those_of_regions_do():
    eight = regions(connectivity=8)
    assert product(sieve=9).cleaning == Cleaning(classes=CLASSES, sieve=9, connectivity=4)
    assert product(sieve=9, options=eight).cleaning == Cleaning(classes=CLASSES, sieve=9, connectivity=8)


def test_an_encoding_follows_what_is_cleaned_and_nothing_else():
    plain = product()
    others = [
        product(BUILT),
        product(("built", ("road", "water"))),
        product(sieve=9),
        product(sieve=10),
        product(sieve=9, options=regions(connectivity=8)),
        product(BUILT, sieve=9),
    ]
    assert len({one.encoding for one in [plain, *others]}) == 7
    assert len({one.digest for one in [plain, *others]}) == 7
    assert product(sieve=9, options=regions(min_area=5)).encoding == others[2].encoding
    # Without a sieve it does not matter how pixels touch.
    assert product(BUILT, options=regions(connectivity=8)).encoding == others[0].encoding


def test_products_of_before_the_keys_were_known_keep_their_digests():
    assert (plain := make_product("a", "b")).encoding == "2939894f3080b432"
    assert plain.digest == "1cd4c0a86af7d5ce"


def test_words_say_what_becomes_of_what():
    merges = (Merge(name="built", ids=(0, 2)),)
    both = Cleaning(classes=CLASSES, merges=merges, sieve=2000)
    assert both.words == "building, road become built; regions below 2,000 pixels take a neighbour's class"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"sieve": 1}, "sieve: .*greater than or equal to 2"),
        ({"sieve": "many"}, "sieve"),
        ({"merge": {"built": ["building"]}}, "merge"),
        ({"merge": ["building", "road"]}, "merge"),
        ({"result": "values", "sieve": 20}, r"sieve: needs values: \{threshold"),
        ({"result": "values", "merge": {"any": [0, 1]}}, r"merge: needs values: \{threshold"),
    ],
)
def test_keys_that_mean_nothing_are_refused(tmp_path, keys, said):
    with pytest.raises(ConfigError, match=said):
        load_job(write_job(tmp_path, **keys))


def test_a_job_file_says_them(tmp_path):
    config = load_job(write_job(tmp_path, sieve=20, merge={"built": ["building", 2]}))
    assert (config.sieve, config.merge) == (20, (("built", ("building", 2)),))
    assert (load_job(write_job(tmp_path)).sieve, load_job(write_job(tmp_path)).merge) == (0, ())
    assert load_job(write_job(tmp_path, sieve=20), ["sieve=null"]).sieve == 0
    divided = {"result": "values", "values": {"threshold": 0.5}, "sieve": 20}
    assert load_job(write_job(tmp_path, **divided)).sieve == 20
