"""One product's `*_MTL` file of Landsat in its three forms."""

import json

MTL = {
    "IMAGE_ATTRIBUTES": {"SPACECRAFT_ID": "LANDSAT_8", "SENSOR_ID": "OLI_TIRS"},
    "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": {
        "REFLECTANCE_MULT_BAND_4": "2.75e-05",
        "REFLECTANCE_ADD_BAND_4": "-0.2",
    },
    "LEVEL1_RADIOMETRIC_RESCALING": {
        "REFLECTANCE_MULT_BAND_4": "2.0000E-05",
        "REFLECTANCE_ADD_BAND_4": "-0.100000",
        "RADIANCE_MULT_BAND_10": "3.3420E-04",
    },
}


def as_json(groups: dict) -> str:
    return json.dumps({"LANDSAT_METADATA_FILE": groups})


def as_xml(groups: dict) -> str:
    inside = "".join(
        f"<{name}>{''.join(f'<{key}>{value}</{key}>' for key, value in group.items())}</{name}>\n"
        for name, group in groups.items()
    )
    return f'<?xml version="1.0"?>\n<LANDSAT_METADATA_FILE>{inside}</LANDSAT_METADATA_FILE>'


def as_text(groups: dict) -> str:
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for name, group in groups.items():
        quoted = [f"    {k} = " + (f'"{v}"' if v.startswith("L") else v) for k, v in group.items()]
        lines += [f"  GROUP = {name}", *quoted, f"  END_GROUP = {name}"]
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])


FORMS = {"json": as_json, "xml": as_xml, "txt": as_text}
