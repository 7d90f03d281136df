import json
from xml.etree import ElementTree

import pytest
from mtl_forms import MTL, as_text, as_xml

from batchseg.inputs.mtl import groups_of_json, groups_of_text, groups_of_xml


def test_the_three_forms_say_the_same():
    assert groups_of_json(json.dumps({"LANDSAT_METADATA_FILE": MTL}).encode()) == MTL
    assert groups_of_xml(ElementTree.fromstring(as_xml(MTL))) == MTL  # noqa: S314  our own
    found = groups_of_text(as_text(MTL).encode())
    assert {name: found[name] for name in MTL} == MTL


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe\0", b"GROUP", b"=" * 99, b"END_GROUP = A\nA = 1\n", b"GROUP = A"]
)
def test_other_text_is_refused(data):
    with pytest.raises(ValueError, match="has no group LANDSAT_METADATA_FILE"):
        groups_of_text(data)
