import pytest

from batchseg.pixels.band_colors import colors_of_names

BGR, RGB = ("blue", "green", "red"), ("red", "green", "blue")


@pytest.mark.parametrize(
    ("names", "colors"),
    [
        ("blue,green,red", BGR),
        ("Band_Blue,Band_Green,Band_Red", BGR),
        ("b,g,r", BGR),
        ("B,G,R,N", (*BGR, "nir")),
        ("B02,B03,B04", BGR),
        ("B2,B3,B4,B8", (*BGR, "nir")),
        ("T31UDQ_B04_10m,T31UDQ_B03_10m,T31UDQ_B02_10m", RGB),
        ("B4 central wavelength 665 nm,B3 central wavelength 560 nm,B2 central wavelength 490 nm", RGB),
        ("SR_B2,SR_B3,SR_B4", BGR),
        ("SR_B4,SR_B3,SR_B2,SR_B5", (*RGB, "nir")),
        ("SR_B3,SR_B2,SR_B1", RGB),  # Landsat 5 and 7
        ("LC08_L2SP_SR_B4,LC08_L2SP_SR_B3,LC08_L2SP_SR_B2", RGB),
        ("LE07_L2SP_SR_B4,LE07_L2SP_SR_B3,LE07_L2SP_SR_B2", ("nir", "red", "green")),
        ("SR_B1,SR_B2,SR_B3,SR_B4,SR_B5,SR_B7", ("blue", "green", "red", "nir", "", "")),
        ("SR_B1,SR_B2,SR_B3,SR_B4,SR_B5,SR_B6,SR_B7", ("", *BGR, "nir", "", "")),
        ("near infrared,red,green", ("nir", "red", "green")),
        ("red edge,rededge,red_edge_1,red", ("", "", "", "red")),
        ("coastal_blue,blue,green,yellow,red,nir", ("", "blue", "green", "", "red", "nir")),
        ("infrared,greenness,dark red", ("", "", "red")),
        ("B1,B2,B3", ("", "", "")),  # places in the file, or Landsat 5
        ("B3,B2,B1", ("", "", "")),
        ("B01,B02,B03,B04", ("",) * 4),
        ("Band 4,Band 3,Band 2", ("", "", "")),
        ("SR_B1,SR_B2,SR_B3,SR_B4", ("",) * 4),  # blue first or violet first: two satellites
        ("b,depth,slope", ("", "", "")),
        (",,", ("", "", "")),
    ],
)
def test_names_stand_for_colours_where_they_can_mean_one_thing_alone(names, colors):
    assert colors_of_names(names.split(",")) == colors


def test_no_names_are_no_colours():
    assert colors_of_names(()) == ()
