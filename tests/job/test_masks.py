import re

import pytest
from factories import write_job
from job_files import RED, refusal

from batchseg.job.file import load_job
from batchseg.job.masks import mask_flags, masks_in_words
from batchseg.job.settings import MaskFlags

PRESET = {"landsat": "archive", "assets": ["red"]}


@pytest.mark.parametrize("given", [["clouds", "shadows"], {"shadows": None, "clouds": None}])
def test_flags_are_given_by_name_as_a_list_or_as_yaml_reads_a_set(tmp_path, given):
    config = load_job(write_job(tmp_path, inputs=PRESET | {"mask": given}))
    mask = config.inputs[0][1].mask
    assert mask == MaskFlags(by="bits", numbers=(3, 4), flags=("clouds", "shadows"))
    assert mask.words == "clouds, shadows"
    assert mask_flags("sentinel2", given) == MaskFlags(
        by="values", numbers=(3, 8, 9), flags=("clouds", "shadows")
    )


def test_a_set_in_yaml_is_such_a_mapping(tmp_path):
    job = write_job(tmp_path)
    text = "{landsat: archive, assets: [red], mask: {clouds, shadows}}"
    assert load_job(job, [f"inputs={text}"]).inputs[0][1].mask.numbers == (3, 4)
    job.write_text(job.read_text().replace("inputs:", f"inputs: {text}\nmodel_:", 1))
    job.write_text(re.sub(r"model_:.*\n", "", job.read_text()))
    assert load_job(job).inputs[0][1].mask.numbers == (3, 4)


def test_other_sets_say_which_raster_and_what_in_it(tmp_path):
    file = {"file": "qa/{scene}.tif", "bits": [4, 3, 3]}
    config = load_job(write_job(tmp_path, inputs={"bands": RED, "mask": file}))
    assert config.inputs[0][1].mask == MaskFlags(
        by="bits", numbers=(3, 4), file=f"{tmp_path}/qa/{{scene}}.tif"
    )
    assert config.inputs[0][1].mask.words == "bits 3, 4"
    given = {"manifest": "m.csv", "columns": ["a"], "mask": {"column": "scl", "values": [8, 9]}}
    config = load_job(write_job(tmp_path, inputs=given))
    assert config.inputs[0][1].mask == MaskFlags(by="values", numbers=(8, 9), file="scl")
    given = {"stac": "i.json", "assets": ["a"], "mask": {"asset": "scl", "values": 0}}
    config = load_job(write_job(tmp_path, inputs=given), ["inputs.mask.values=[1]"])
    assert config.inputs[0][1].mask == MaskFlags(by="values", numbers=(1,), file="scl")


def test_a_file_of_the_command_line_is_relative_to_its_folder(tmp_path, monkeypatch):
    (tmp_path / "shell").mkdir()
    monkeypatch.chdir(tmp_path / "shell")
    job = write_job(tmp_path, inputs={"bands": RED})
    mask = load_job(job, ["inputs.mask={file: 'q/{scene}.tif', bits: [1]}"]).inputs[0][1].mask
    assert mask.file == f"{tmp_path}/shell/q/{{scene}}.tif"
    job = write_job(tmp_path, inputs={"manifest": "m.csv", "columns": ["a"]})
    mask = load_job(job, ["inputs.mask={column: q, bits: [1]}"]).inputs[0][1].mask
    assert mask.file == "q"
    mask = load_job(write_job(tmp_path, inputs=PRESET), ["inputs.mask=[clouds]"]).inputs[0][1].mask
    assert mask.flags == ("clouds",)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (
            PRESET | {"mask": ["cloud"]},
            "landsat has no flag 'cloud'; perhaps you meant 'clouds'; it has fill",
        ),
        (PRESET | {"mask": ["vegetation"]}, "landsat has no flag 'vegetation'"),
        (PRESET | {"mask": {"clouds": True}}, "a list of flags such as .clouds, shadows.; it has fill"),
        (PRESET | {"mask": []}, "a list of flags"),
        (PRESET | {"mask": True}, "a list of flags"),
        (PRESET | {"mask": [["clouds"]]}, "has no flag"),
        ({"landsat": "a", "mask": ["clouds"]}, "landsat: say which files make a scene"),
        ({"sentinel2": "a", "assets": ["red"], "mask": ["fill"]}, "sentinel2 has no flag 'fill'.*no_data"),
        ({"bands": RED, "mask": ["clouds"]}, r"mask: expected \{file: .*QA_PIXEL"),
        ({"bands": RED, "mask": {"bits": [3]}}, "mask: file: say which raster"),
        ({"bands": RED, "mask": {"file": "q.tif", "bits": [3]}}, r"mask: file: .*has no \{scene\}"),
        ({"bands": RED, "mask": {"file": "{scene}{x}", "bits": [3]}}, r"has \{x\}"),
        ({"bands": RED, "mask": {"file": "{scene}", "bits": [3], "values": [1]}}, "either bits or values"),
        ({"bands": RED, "mask": {"file": "{scene}"}}, "either bits or values"),
        ({"bands": RED, "mask": {"file": "{scene}", "bits": [32]}}, "below 32"),
        ({"bands": RED, "mask": {"file": "{scene}", "bits": []}}, "list of whole numbers"),
        ({"bands": RED, "mask": {"file": "{scene}", "values": [True]}}, "list of whole numbers"),
        ({"bands": RED, "mask": {"file": "{scene}", "bit": [3]}}, "mask: bit: unknown key"),
        ({"stac": "i", "assets": ["a"], "mask": {"file": "q", "bits": [3]}}, "mask: file: unknown key"),
        ({"manifest": "i", "columns": ["a"], "mask": {"column": 3, "bits": [3]}}, "mask: column: say which"),
    ],
)
def test_a_wrong_mask_is_refused_in_words(tmp_path, inputs, words):
    message = refusal(write_job(tmp_path, inputs=inputs))
    assert re.search(words, message), message
    assert "\n" not in message


def test_outputs_remember_each_mask_once():
    one, other = (MaskFlags(by="bits", numbers=(n,)) for n in (4, 3))
    assert masks_in_words([one, None, other, one]) == ["bits 3", "bits 4"]
    assert masks_in_words([None]) == []
