import pytest
import yaml
from exports import NORMALIZE, PADDLESEG_28, refusal
from factories import write_model
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.errors import ModelError
from batchseg.models.deploy import baked_deploy, named_stem, read_classes, read_deploy
from batchseg.models.package import PALETTE, ClassInfo, Normalize
from batchseg.models.reading import read_model


def with_transforms(*transforms):
    return {"Deploy": {**PADDLESEG_28["Deploy"], "transforms": list(transforms)}}


@pytest.mark.parametrize("transforms", [[], None])
def test_an_empty_list_of_transforms_is_no_normalisation(tmp_path, transforms):
    deploy = {"Deploy": {**PADDLESEG_28["Deploy"], "transforms": transforms}}
    files = read_model(str(write_model(tmp_path, deploy)))
    assert (files.declares_transforms, files.normalize) == (True, None)


@pytest.mark.parametrize(
    ("shape", "channels"), [([1, 4, 512, 512], 4), ([-1, -1, -1, -1], None), (None, None)]
)
def test_the_number_of_bands_is_read_from_the_input_shape(tmp_path, shape, channels):
    deploy = {"Deploy": {**PADDLESEG_28["Deploy"], "input_shape": shape}}
    assert read_model(str(write_model(tmp_path, deploy))).bands == channels


@pytest.mark.parametrize("kind", ["PaddingByAspectRatio", "RandomBlur", "DetResizeForTest"])
def test_an_unknown_transform_is_refused_by_name(tmp_path, kind):
    message = refusal(
        write_model(tmp_path, with_transforms({"type": kind, "target_size": [512, 512]}, NORMALIZE))
    )
    assert repr(kind) in message
    assert str(tmp_path / "deploy.yaml") in message


@pytest.mark.parametrize(
    "transform", ["Normalize", {"type": "Normalize", "mean": 0.5}, {"type": "Normalize", "mean": None}, 7, {}]
)
def test_a_transform_of_another_form_is_refused_in_words(tmp_path, transform):
    assert "deploy.yaml" in refusal(write_model(tmp_path, with_transforms(transform)))


@pytest.mark.parametrize("text", ["a: [", "- list", "Model: {}", "Deploy: text", "\xff"])
def test_a_deploy_file_of_another_kind_is_refused(tmp_path, text):
    (write_model(tmp_path) / "deploy.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"deploy\.yaml"):
        read_model(str(tmp_path))


def test_a_deploy_file_of_another_task_is_refused_as_such(tmp_path):
    write_model(tmp_path, {"PreProcess": {"transform_ops": []}}, deploy_name="inference.yml")
    assert "of another task" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("output_op", "sigmoid"),
        ("input_shape", [3, 512, 512]),
        ("input_shape", "free"),
        ("input_layout", "CHW"),
        ("input_dtype", "float64"),
        ("classes", "soil"),
        ("classes", [{"name": "soil", "color": "brown"}]),
        ("classes", [{"color": "#000000"}]),
        ("classes", ["soil\x1b[2J"]),
        ("classes", [""]),
        ("output_op", ["argmax"]),
        ("output_op", {"argmax": 1}),
        ("input_shape", [1, 3, 2**40, 8]),
        ("input_shape", [1, 3, True, 8]),
        ("input_shape", [1, 3, 512.5, 8]),
        ("model", ["a"]),
        ("model", "a" * 256),
    ],
)
def test_a_value_of_another_form_is_refused(tmp_path, key, value):
    message = refusal(write_model(tmp_path, {"Deploy": {**PADDLESEG_28["Deploy"], key: value}}))
    assert key.split("_")[0].removesuffix("es") in message or str(value) in message


@pytest.mark.parametrize(
    ("output_op", "output"), [("argmax", "classes"), ("softmax", "probabilities"), ("none", "logits")]
)
def test_the_output_is_the_appended_operator_s(tmp_path, output_op, output):
    deploy = {"Deploy": {**PADDLESEG_28["Deploy"], "output_op": output_op}}
    files = read_model(str(write_model(tmp_path, deploy)))
    assert files.output == output
    assert ("argmax is baked in: no confidence" in files.limits) == (output == "classes")


@pytest.mark.parametrize("classes", [(), (ClassInfo(name="soil", color="#a0522d"),)])
def test_what_baking_writes_is_read_back(tmp_path, classes):
    text = baked_deploy(
        network="model.json", params="model.pdiparams", bands=4, confidence_output=True, classes=classes
    )
    files = read_model(str(write_model(tmp_path, yaml.safe_load(text))))
    assert (files.origin, files.layout, files.dtype, files.bands) == ("baked", "NHWC", "uint8", 4)
    assert (files.output, files.confidence_output, files.classes) == ("classes", True, classes)
    assert (files.normalize, files.declares_transforms, files.limits) == (None, True, ())


def deploy_file(folder, document):
    path = folder / "deploy.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("document", "stem"),
    [
        (PADDLESEG_28, "model"),
        ({"Deploy": {"model": "./export/land.v2.pdmodel"}}, "land.v2"),
        ({"Deploy": {"params": "model.pdiparams"}}, None),
        ({"Deploy": []}, None),
        ([], None),
        (None, None),
    ],
)
def test_the_network_is_the_one_that_is_named_if_any_is(tmp_path, document, stem):
    assert named_stem(deploy_file(tmp_path, document)) == stem


def test_only_sizes_above_zero_are_fixed(tmp_path):
    document = {"Deploy": {"input_shape": [-1, 4, None, 512], "transforms": [NORMALIZE]}}
    said = read_deploy(deploy_file(tmp_path, document))
    assert said.shape == (None, 4, None, 512)
    assert said.normalize == Normalize(mean=tuple(NORMALIZE["mean"]), std=tuple(NORMALIZE["std"]))
    assert (said.origin, said.declares_transforms, said.output, said.confidence_output) == (
        "paddleseg",
        True,
        None,
        False,
    )


names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
colors = st.none() | st.from_regex("#[0-9a-fA-F]{6}", fullmatch=True)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(names, colors), max_size=25))
def test_classes_have_their_colours_or_the_palettes_in_turn(pairs):
    given_ = [name if color is None else {"name": name, "color": color} for name, color in pairs]
    found = read_classes(given_, "deploy.yaml")
    assert [info.name for info in found] == [name for name, _ in pairs]
    for number, (info, (_, color)) in enumerate(zip(found, pairs, strict=True)):
        assert info.color == (color or PALETTE[number % len(PALETTE)]).lower()
    assert read_classes(None, "deploy.yaml") == ()


@settings(deadline=None, max_examples=60)
@given(
    st.none() | st.integers(1, 300),
    st.booleans(),
    st.lists(names, max_size=4),
    st.sampled_from(["uint8", "int32"]),
)
def test_a_baked_file_says_what_it_was_told(tmp_path_factory, bands, sure, classes, dtype):
    known = read_classes(classes, "deploy.yaml")
    text = baked_deploy(
        network="land.json",
        params="land.pdiparams",
        bands=bands,
        confidence_output=sure,
        classes=known,
        output_dtype=dtype,
    )
    path = tmp_path_factory.mktemp("baked") / "deploy.yaml"
    path.write_text(text, encoding="utf-8")
    said = read_deploy(path)
    assert named_stem(path) == "land"
    assert yaml.safe_load(text)["Deploy"]["output_dtype"] == dtype
    assert (said.origin, said.layout, said.dtype, said.output) == ("baked", "NHWC", "uint8", "classes")
    assert (said.shape, said.confidence_output, said.classes) == ((None, None, None, bands), sure, known)
    assert (said.declares_transforms, said.normalize, said.geometry) == (True, None, ())
