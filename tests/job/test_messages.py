import pytest
from factories import write_job
from job_files import refusal


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("inputs", 5),
        ("inputs", [1]),
        ("inputs", {"a": 1}),
        ("inputs", {"a": ["x"]}),
        ("inputs", {"bands": "a"}),
        ("inputs", {"bands": {}}),
        ("inputs", {"bands": {"red": 4}}),
        ("inputs", {"manifest": "a.csv", "columns": "red"}),
        ("inputs", {"stac": "a.json", "assets": []}),
        ("inputs", {"stac": 5, "assets": ["red"]}),
        ("inputs", {"a": {"b": "c"}}),
        ("inputs", [{"a": "b"}]),
        ("model", 3),
        ("output", None),
        ("bands", []),
        ("bands", [0, 1]),
        ("bands", [1.5]),
        ("bands", "1,2,3"),
        ("tile_size", "512"),
        ("tile_size", 511.5),
        ("tile_size", 7),
        ("tile_size", True),
        ("halo", -1),
        ("halo", -1),
        ("scale", "reflectance"),
        ("scale", {"divide": 0}),
        ("scale", {"divid": 10000}),
        ("scale", {"divide": 255, "stretch": [0, 1]}),
        ("scale", {"stretch": [0]}),
        ("scale", {"stretch": [0, "high"]}),
        ("normalize", "imagenet"),
        ("normalize", {"mean": [0.5]}),
        ("normalize", {"mean": [0.5], "std": [0.5, 0.5]}),
        ("normalize", {"mean": [0.5], "std": [0]}),
        ("normalize", {"mean": [], "std": []}),
        ("nodata", "zero"),
        ("nodata", [0]),
        ("nodata", True),
        ("classes", "soil, water"),
        ("classes", [{"color": "#ffffff"}]),
        ("classes", [{"name": "soil", "colour": "#ffffff"}]),
        ("classes", [{"name": "soil", "color": "brown"}]),
        ("classes", [3]),
        ("num_classes", 0),
        ("num_classes", 65536),
        ("confidence", "yes"),
        ("confidence", 1),
        ("compress", "jpeg"),
        ("precision", "fp8"),
        ("engine", "tflite"),
        ("gate", {"equal_pixels": 2}),
        ("model", {"path": "m", "layout": "HWC"}),
        ("device", "cuda"),
        ("executor", "dask"),
        ("ray_address", 6379),
        ("workers", 0),
        ("workers", 1.5),
        ("gpus_per_worker", 0),
        ("batch_size", 0),
        ("shard_tiles", 0),
        ("max_in_flight", "lots"),
        ("max_in_flight", [1]),
        ("max_photo_memory", "lots"),
        ("max_photo_memory", [1]),
        ("lease_timeout", 0),
        ("lease_timeout", "soon"),
        ("deadline", "25:00"),
        ("deadline", "tomorrow"),
        ("stop_after", 1),
        ("allow_empty", "no"),
        ("aoi", 5),
        ("aoi", ""),
        ("aoi", {"layer": "north"}),
        ("aoi", {"file": "a.gpkg", "table": "north"}),
        ("on_bad_block", "skip"),
        ("min_age", "soon"),
        ("min_age", "06:00"),
        ("min_age", -1),
        ("min_age", True),
        ("fit", "crop"),
        ("rules", {"class": "crack"}),
        ("rules", ["crack"]),
        ("rules", "crack"),
        ("pixel_size", 0),
        ("pixel_size", "0.05mm"),
        ("masks", "some"),
        ("mask_format", "jpg"),
        ("same_content", "yes"),
    ],
)
def test_a_wrong_value_gives_one_line_that_names_file_and_key(tmp_path, key, value):
    path = write_job(tmp_path, **{key: value})
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert key in message
    assert "\n" not in message
    assert "pydantic" not in message


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("tilesize", "tile_size"), ("nodta", "nodata"), ("class", "classes"), ("Halo", "halo")],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path, typo, meant):
    path = write_job(tmp_path, **{typo: 1})
    message = refusal(path)
    assert message.startswith(f"{path}: {typo}: unknown key")
    assert repr(meant) in message
    assert "\n" not in message


def test_a_key_like_no_other_is_answered_with_all_keys(tmp_path):
    message = refusal(write_job(tmp_path, zzz=1))
    assert "zzz: unknown key" in message
    assert "tile_size" in message


@pytest.mark.parametrize("text", ["5: five\n", "on: true\n", "null: 1\n"])
def test_a_key_that_is_no_text_is_refused_in_words(tmp_path, text):
    path = write_job(tmp_path, text)
    assert refusal(path).startswith(f"{path}: ")


def test_each_wrong_key_has_its_line(tmp_path):
    message = refusal(write_job(tmp_path, tile_size="big", compress="jpeg", zzz=1))
    lines = message.splitlines()
    assert len(lines) == 3
    assert [any(key in line for line in lines) for key in ("tile_size", "compress", "zzz")] == [True] * 3


@pytest.mark.parametrize("key", ["inputs", "model", "output"])
def test_a_missing_key_is_named(tmp_path, key):
    path = write_job(tmp_path)
    path.write_text("".join(line for line in path.open() if not line.startswith(key)))
    assert refusal(path).startswith(f"{path}: {key}: missing")


@pytest.mark.parametrize(
    ("model", "word"),
    [
        ({"path": "m", "thresold": 0.3}, "thresold: unknown key. Perhaps you meant 'threshold'"),
        ({"path": "m", "threshold": 2}, "threshold: input should be less than 1; found 2"),
        ({"path": "m", "output": "banana"}, "output: input should be 'logits', 'probabilities'"),
    ],
)
def test_a_wrong_key_below_model_is_named(tmp_path, model, word):
    assert word in refusal(write_job(tmp_path, model=model))


def test_each_wrong_key_of_a_rule_has_its_line(tmp_path):
    rules = [{"class": 1.5, "count": "x"}, {"then": "fail"}]
    lines = refusal(write_job(tmp_path, rules=rules)).splitlines()
    assert [line.partition("rules: ")[2].partition(": expected")[0][:18] for line in lines] == [
        "number 1: class",
        "number 1: count: i",
        "number 2: then",
    ]


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ("folder/", "expected {images: held-out/images, labels: held-out/labels}; found 'folder/'"),
        ({"images": "a"}, "labels: missing; expected {images: held-out/images, labels: held-out/labels}"),
        ({"images": "a", "labels": ""}, "labels: expected a folder, a glob or a manifest; found ''"),
        ({"images": 3, "labels": "b"}, "images: expected a folder, a glob or a manifest; found 3"),
        ({"images": "a", "labels": "b", "label": "c"}, "label: unknown key. Perhaps you meant 'labels'?"),
    ],
)
def test_a_wrong_truth_is_told_in_the_words_of_other_keys(tmp_path, truth, said):
    path = write_job(tmp_path, gate={"truth": truth})
    assert refusal(path) == f"{path}: gate: truth: {said}"
