"""Metres and degrees of pixels against geodesics and transformed points."""

import math

import numpy as np
import pyproj
import pytest
from factories import make_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from batchseg.inputs.source import Georeference
from batchseg.regions.geodesy import LonLatBoxes, crs_code, row_areas, side_lengths

UTM = CRS.from_epsg(32632).to_wkt()
WGS84 = CRS.from_epsg(4326).to_wkt()
TEN_METRES = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_400_000.0)


def georeference(wkt=UTM, transform=TEN_METRES) -> Georeference:
    return Georeference(crs_wkt=wkt, transform=transform, gcps=(), gcps_crs_wkt=None, rpcs=())


def areas_of(scene):
    return row_areas(scene.georeference, height=scene.height, width=scene.width)


def pixel_area(crs, transform, row: int, col: int) -> float:
    """Of one pixel by geodesics, its parallels followed in many short steps."""
    a, b, c, d, e, f = transform
    steps = np.linspace(0, 1, 65)[:-1]
    along = np.concatenate([steps, np.ones(64), 1 - steps, np.zeros(64)]) + col
    down = np.concatenate([np.zeros(64), steps, np.ones(64), 1 - steps]) + row
    area, _ = crs.get_geod().polygon_area_perimeter(c + a * along + b * down, f + d * along + e * down)
    return abs(area)


@pytest.mark.parametrize("top", [89.9, 60.0, 0.05, -35.0])
@pytest.mark.parametrize("code", [4326, 4258, 4267])
def test_areas_of_degrees_are_those_of_the_ellipsoid(top, code):
    crs, transform = pyproj.CRS.from_epsg(code), (0.01, 0.0, 7.0, 0.0, -0.02, top)
    scene = make_scene(9, 5, georeference=georeference(crs.to_wkt(), transform))
    expected = [pixel_area(crs, transform, row, 2) for row in range(9)]
    np.testing.assert_allclose(areas_of(scene), expected, rtol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 10.0, 45.0, 89.0, 90.0, 180.0])
def test_areas_of_turned_rasters_are_those_at_the_middle_of_the_row(angle):
    turn = math.radians(angle)
    a, b, d, e = math.cos(turn), math.sin(turn), math.sin(turn), -math.cos(turn)
    if angle % 90 == 0:
        a, b, d, e = (float(round(v)) for v in (a, b, d, e))
    transform = (a * 1e-3, b * 1e-3, 7.0, d * 1e-3, e * 1e-3, 50.0)
    crs = pyproj.CRS.from_epsg(4326)
    scene = make_scene(6, 9, georeference=georeference(WGS84, transform))
    expected = [pixel_area(crs, transform, row, 4) for row in range(6)]
    np.testing.assert_allclose(areas_of(scene), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("crs", "unit"),
    [("EPSG:32632", 1.0), ("EPSG:2263", 1200 / 3937), ("EPSG:32632+5773", 1.0), ("EPSG:3035", 1.0)],
)
def test_areas_of_a_plane_are_in_metres_whatever_its_unit(crs, unit):
    transform = (3.0, 1.0, 0.0, 0.5, -2.0, 0.0)
    scene = make_scene(7, 5, georeference=georeference(pyproj.CRS(crs).to_wkt(), transform))
    np.testing.assert_allclose(areas_of(scene), np.full(7, 6.5 * unit**2), rtol=1e-9)


@pytest.mark.parametrize(
    "place",
    [georeference(None), georeference(UTM, None), georeference("no crs"), georeference('LOCAL_CS["plan"]')],
)
def test_without_a_known_place_there_is_no_area(place):
    assert row_areas(place, height=7, width=5) is None


TRANSFORMS = {
    "north up": (0.01, 0.0, 7.0, 0.0, -0.02, 60.0),
    "south up": (0.01, 0.0, 7.0, 0.0, 0.02, -35.0),
    "turned": (0.008, 0.004, 7.0, 0.005, -0.01, 48.0),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("code", [4326, 4267])
def test_sides_in_degrees_have_the_length_of_geodesics(name, code):
    a, b, c, d, e, f = TRANSFORMS[name]
    crs = pyproj.CRS.from_epsg(code)
    sides = side_lengths(georeference(crs.to_wkt(), TRANSFORMS[name]), height=30)

    def length(cols, rows):
        cols, rows = (np.linspace(*ends, 200) for ends in (cols, rows))
        return crs.get_geod().line_length(c + a * cols + b * rows, f + d * cols + e * rows)

    x, y, to = np.array([3, 9]), np.array([0, 30]), np.array([8, 2])
    expected = [length((3, 8), (0, 0)), length((9, 2), (30, 30))]
    np.testing.assert_allclose(sides.horizontal(y, x, to), expected, rtol=1e-4)
    expected = [length((3, 3), (0, 8)), length((9, 9), (30, 2))]
    np.testing.assert_allclose(sides.vertical(x, y, to), expected, rtol=1e-4)


def test_sides_of_a_plane_are_in_metres_whatever_its_unit():
    place = georeference(pyproj.CRS("EPSG:2263").to_wkt(), (3.0, 1.0, 0.0, 4.0, -2.0, 0.0))
    sides = side_lengths(place, height=9)
    foot = 1200 / 3937
    assert sides.horizontal(np.array([4]), np.array([7]), np.array([2])) == pytest.approx(25 * foot)
    assert sides.vertical(np.array([7]), np.array([1]), np.array([9])) == pytest.approx(8 * 5**0.5 * foot)


@pytest.mark.parametrize("place", [georeference(None), georeference(UTM, None), georeference("no crs")])
def test_without_a_known_place_there_is_no_length_and_no_code(place):
    assert side_lengths(place, height=7) is None
    assert crs_code(place) == "none"


def test_codes_name_the_authority():
    assert crs_code(georeference()) == "EPSG-32632"
    assert crs_code(georeference(pyproj.CRS("ESRI:102008").to_wkt())) == "ESRI-102008"
    local = pyproj.CRS("+proj=tmerc +lat_0=1.5 +lon_0=7.25 +ellps=GRS80")
    assert crs_code(georeference(local.to_wkt())) == crs_code(
        georeference(local.to_wkt("WKT2_2019", pretty=True))
    )
    assert crs_code(georeference(local.to_wkt())).startswith("wkt-")
    assert len(crs_code(georeference(local.to_wkt()))) == 12


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([32632, 3031, 3857, 4326]),
    st.sampled_from([0.0, 0.4, 2.0]),
    st.lists(st.integers(0, 90), min_size=4, max_size=4),
)
def test_boxes_hold_the_pixels(code, angle, ends):
    cols, rows = sorted([ends[0], ends[1] + 91]), sorted([ends[2], ends[3] + 91])
    step = 0.01 if code == 4326 else 500.0
    cos, sin = math.cos(angle) * step, math.sin(angle) * step
    origin = {32632: (4e5, 5e6), 3031: (9e5, 1e6), 3857: (1e6, 6e6), 4326: (8.0, 50.0)}[code]
    transform = (cos, sin, origin[0], sin, -cos, origin[1])
    box = LonLatBoxes(pyproj.CRS.from_epsg(code), transform)(
        np.array([[cols[0], rows[0], cols[1], rows[1]]])
    )[0]
    x, y = np.meshgrid(np.linspace(*cols, 40), np.linspace(*rows, 40))
    to_degrees = pyproj.Transformer.from_crs(code, 4326, always_xy=True)
    lon, lat = to_degrees.transform(cos * x + sin * y + origin[0], sin * x - cos * y + origin[1])
    inner = np.array([lon.min(), lat.min(), lon.max(), lat.max()])
    slack = 1e-4 * (box[2:] - box[:2]).max()
    assert (box[:2] <= inner[:2] + slack).all()
    assert (box[2:] >= inner[2:] - slack).all()
    np.testing.assert_allclose(box, inner, atol=2 * slack)


def test_boxes_across_the_antimeridian_are_from_west_to_east():
    boxes = LonLatBoxes(pyproj.CRS.from_epsg(32660), (1000.0, 0.0, 6e5, 0.0, -1000.0, 7.2e6))
    west, south, east, north = boxes(np.array([[0, 0, 300, 90]]))[0]
    assert 178 < west < 180
    assert -180 < east < -174
    assert 63 < south < north < 66
    degrees = LonLatBoxes(pyproj.CRS.from_epsg(4326), (0.5, 0.0, 170.0, 0.0, -0.5, 60.0))
    np.testing.assert_allclose(
        degrees(np.array([[0, 0, 40, 10], [0, 0, 20, 2]])), [[170, 55, -170, 60], [170, 59, 180, 60]]
    )


def test_boxes_around_a_pole_and_around_the_world_hold_all_longitudes():
    polar = LonLatBoxes(pyproj.CRS.from_epsg(3031), (1000.0, 0.0, -50_000.0, 0.0, -1000.0, 60_000.0))
    west, south, east, north = polar(np.array([[0, 0, 100, 100]]))[0]
    assert (west, south, east) == (-180, -90, 180)
    assert -90 < north < -89
    world = LonLatBoxes(pyproj.CRS.from_epsg(4326), (0.5, 0.0, -180.0, 0.0, -0.5, 90.0))
    np.testing.assert_allclose(world(np.array([[0, 0, 720, 360]])), [[-180, -90, 180, 90]])


def test_boxes_beyond_a_projection_are_unknown():
    boxes = LonLatBoxes(pyproj.CRS("+proj=ortho"), (1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    degrees = boxes(np.array([[0, 0, 9, 9], [0, 0, 10**8, 9]]))
    assert np.isfinite(degrees).all(axis=1).tolist() == [True, False]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("+proj=stere +lat_0=-90 +lat_ts=-71 +lon_0=0 +datum=WGS84", "EPSG-3031"),
        ("+proj=stere +lat_0=90 +lat_ts=70 +lon_0=-45 +datum=WGS84", "EPSG-3413"),
    ],
)
def test_a_crs_that_lacks_its_name_alone_has_its_code(words, code):
    assert crs_code(georeference(pyproj.CRS(words).to_wkt())) == code
