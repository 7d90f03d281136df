import math

import pyproj
import pytest
from factories import make_scene
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.inputs.source import ControlPoint, Georeference
from batchseg.pixels.ground import body, degrees, ground_resolution


def scene_at(crs, transform=None, *, gcps=(), height=1000, width=1000):
    wkt = pyproj.CRS(crs).to_wkt() if crs else None
    place = Georeference(
        crs_wkt=None if gcps else wkt,
        transform=transform,
        gcps=gcps,
        gcps_crs_wkt=wkt if gcps else None,
        rpcs=(),
    )
    return make_scene(height, width, georeference=place)


def square(left, top, step):
    return (step, 0.0, left, 0.0, -step, top)


@pytest.mark.parametrize(
    ("crs", "transform", "sides"),
    [
        ("EPSG:32631", square(500_000, 5_775_000, 0.25), (0.25, 0.25)),
        ("EPSG:2229", square(6_500_000, 1_800_000, 1.0), (0.3048, 0.3048)),  # US survey feet
        ("EPSG:3857", square(0, 8_399_737, 2.0), (1.0, 1.0)),  # at 60 degrees north
        ("EPSG:3031", square(0, 2_082_760, 10.0), (10.0, 10.0)),  # near its true parallel
        ("EPSG:4326", square(5.0, 0.005, 1e-5), (1.1132, 1.1057)),  # at the equator
        ("EPSG:4258", (2e-5, 0.0, 5.0, 0.0, -1e-5, 60.0), (1.1160, 1.1141)),  # twice as wide in degrees
        ("EPSG:32631", (2.5, 0.0, 500_000, 0.0, -40.0, 5_775_000), (2.5, 40.0)),
        ("EPSG:4326", square(5.0, 60.0, 1e-4), (5.58, 11.14)),
        ("EPSG:4807", square(0.0, 50.0, 1e-5), (0.7080, 1.0003)),  # grads
    ],
)
def test_pixels_are_measured_on_the_ellipsoid_at_the_scenes_centre(crs, transform, sides):
    assert ground_resolution(scene_at(crs, transform)) == pytest.approx(sides, rel=0.01)


@settings(deadline=None, max_examples=40)
@given(angle=st.floats(0, 2 * math.pi), size=st.floats(0.01, 500))
def test_turning_a_raster_leaves_its_pixels_as_large(angle, size):
    cos, sin = size * math.cos(angle), size * math.sin(angle)
    turned = scene_at("EPSG:32633", (cos, sin, 500_000.0, sin, -cos, 4_600_000.0), height=20, width=20)
    assert ground_resolution(turned) == pytest.approx((size, size), rel=1e-3)


def test_control_points_say_it_and_a_site_in_metres_too():
    corners = [(0, 0), (0, 1000), (1000, 0), (1000, 1000)]
    points = tuple(
        ControlPoint(row=row, col=col, x=500_000 + 3 * col, y=4e6 - 3 * row, z=0.0, id=str(n))
        for n, (row, col) in enumerate(corners)
    )
    assert ground_resolution(scene_at("EPSG:32633", gcps=points)) == pytest.approx((3, 3), rel=1e-2)
    assert ground_resolution(scene_at("EPSG:32633", gcps=points[:2])) is None
    site = 'LOCAL_CS["site",UNIT["foot",0.3048],AXIS["x",EAST],AXIS["y",NORTH]]'
    assert ground_resolution(scene_at(site, square(0, 0, 2.0))) == pytest.approx((0.6096, 0.6096))


@pytest.mark.parametrize(
    ("crs", "transform", "sides"),
    [
        ("EPSG:4326", square(5.0, 60.0, 1e-5), (1e-5, 1e-5)),
        ("EPSG:4326", (0.8e-5, 0.6e-5, 5.0, 1.2e-5, -1.6e-5, 60.0), (1.44222e-5, 1.7088e-5)),
        ("EPSG:4807", square(5.0, 50.0, 1e-5), (0.9e-5, 0.9e-5)),  # grads
        ("EPSG:32633", square(500_000, 4_600_000, 1.0), None),
        ("EPSG:4326", None, None),
        (None, square(5.0, 60.0, 1e-5), None),
        ("EPSG:4326", square(5.0, 60.0, 0.0), None),
    ],
)
def test_degrees_are_those_of_longitude_and_latitude(crs, transform, sides):
    found = degrees(scene_at(crs, transform))
    assert found is None if sides is None else found == pytest.approx(sides, rel=1e-4)


@pytest.mark.parametrize(
    "scene",
    [
        scene_at(None, square(500_000, 4_600_000, 1.0)),
        scene_at("EPSG:32633"),
        scene_at(None),
        scene_at("EPSG:32633", square(math.nan, 0, 1.0)),
        scene_at("EPSG:32633", square(0, 0, 0.0)),
        scene_at('LOCAL_CS["site",UNIT["unknown",1]]', square(0, 0, 2.0)),
        scene_at('LOCAL_CS["site",UNIT["degree",0.0174532925199433]]', square(0, 0, 2.0)),
    ],
    ids=["no CRS", "no geotransform", "neither", "NaN", "no size", "no unit", "no length"],
)
def test_what_nothing_says_is_unknown(scene):
    assert ground_resolution(scene) is None


@pytest.mark.parametrize(
    ("crs", "name"),
    [
        ("EPSG:4326", "the Earth"),
        ("EPSG:31467", "the Earth"),  # Bessel's ellipsoid
        ("+proj=eqc +a=3396190 +b=3376200 +units=m", "Mars"),
        ("+proj=longlat +a=1737400 +b=1737400", "the Moon"),
        ("+proj=longlat +a=2575000 +b=2575000", "a body of 2,575 km radius"),
        (None, None),
    ],
)
def test_bodies_are_told_by_their_radius(crs, name):
    assert body(scene_at(crs)) == name
