import numpy as np
import pytest
import rasterio
from conftest import write_raster
from factories import make_product, make_recipe, make_scene
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from batchseg.inputs.source import ControlPoint, Georeference
from batchseg.output.cog import Piece, sidecar_is_whole, vrt_of, write_cog
from batchseg.pixels.grid import Window

UTM = CRS.from_epsg(32632).to_wkt()
PLACE = Georeference(
    crs_wkt=UTM, transform=(10.0, 0.0, 500_000.0, 0.0, -10.0, 5.4e6), gcps=(), gcps_crs_wkt=None, rpcs=()
)
HEIGHT, WIDTH = 30, 20
PIECE = Window(row_off=7, col_off=5, height=11, width=13)


@pytest.fixture
def piece(tmp_path):
    ids = np.random.default_rng(1).integers(0, 3, (1, PIECE.height, PIECE.width)).astype(np.uint8)
    return Piece(path=str(write_raster(tmp_path / "piece.tif", ids)), window=PIECE), ids[0]


def mosaic_of(pieces, layer="mask", georeference=PLACE, product=None):
    scene = make_scene(HEIGHT, WIDTH, georeference=georeference)
    return vrt_of(scene, make_recipe(), layer, pieces, (product or make_product()).classes)


def test_what_no_piece_covers_is_nodata(piece):
    made, ids = piece
    expected = np.full((HEIGHT, WIDTH), 255, np.uint8)
    expected[7:18, 5:18] = ids
    with rasterio.open(mosaic_of([made])) as mosaic:
        assert np.array_equal(mosaic.read(1), expected)
        assert (mosaic.nodata, mosaic.crs, mosaic.descriptions) == (255, CRS.from_epsg(32632), ("class",))
        assert tuple(mosaic.transform)[:6] == PLACE.transform


def test_confidence_has_neither_classes_nor_colours(piece):
    with rasterio.open(mosaic_of([piece[0]], layer="confidence")) as mosaic:
        assert (mosaic.nodata, mosaic.colorinterp[0].name) == (0, "undefined")
        assert "CLASS_0" not in mosaic.tags()


def test_control_points_and_rational_polynomials_stay(piece):
    points = tuple(
        ControlPoint(id=f"{n}", row=float(n), col=2.0 * n, x=7.0 + n, y=50.0, z=3.0) for n in range(3)
    )
    wkt = CRS.from_epsg(4326).to_wkt()
    place = Georeference(
        crs_wkt=None, transform=None, gcps=points, gcps_crs_wkt=wkt, rpcs=(("HEIGHT_OFF", "12"),)
    )
    with rasterio.open(mosaic_of([piece[0]], georeference=place)) as mosaic:
        found, crs = mosaic.gcps
        assert [(p.row, p.col, p.x, p.z) for p in found] == [(p.row, p.col, p.x, p.z) for p in points]
        assert crs == CRS.from_epsg(4326)
        assert mosaic.tags(ns="RPC")["HEIGHT_OFF"] == "12"


def test_the_copy_is_a_cog_with_the_same_pixels_and_its_classes_beside_it(piece, tmp_path):
    product, target = make_product(), tmp_path / "made.tif"
    vrt = mosaic_of([piece[0]], product=product)
    write_cog(vrt, target, product)
    assert cog_validate(target, quiet=True)[0]
    with rasterio.open(vrt) as mosaic, rasterio.open(target) as made:
        assert np.array_equal(made.read(1), mosaic.read(1))
    assert sidecar_is_whole(target, product.classes)


@pytest.mark.parametrize("left", [0, 40])
def test_a_sidecar_that_was_cut_off_is_seen(piece, tmp_path, left):
    product, target = make_product(), tmp_path / "made.tif"
    write_cog(mosaic_of([piece[0]], product=product), target, product)
    sidecar = target.with_name("made.tif.aux.xml")
    sidecar.write_bytes(sidecar.read_bytes()[:left])
    assert not sidecar_is_whole(target, product.classes)
    sidecar.unlink()
    assert not sidecar_is_whole(target, product.classes)
    assert sidecar_is_whole(target, ())
