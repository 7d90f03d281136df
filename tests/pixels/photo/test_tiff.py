import numpy as np
import pytest
import rasterio
from encoded import ALPHA, GREY, RGB, by_gdal, by_pillow
from rasterio import Affine
from rasterio.control import GroundControlPoint

from batchseg.errors import SourceError
from batchseg.pixels.photo.decode import decode


def test_a_jpeg_inside_a_tiff():
    data = by_gdal(RGB, photometric="YCBCR", compress="jpeg", tiled=True, blockxsize=16, blockysize=16)
    assert np.abs(decode(data, "x.tif").pixels.astype(int) - RGB).mean() < 4


def test_overviews_and_masks_are_no_pages(tmp_path):
    path = tmp_path / "x.tif"
    path.write_bytes(by_gdal(GREY))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(ALPHA > 0)
        dataset.build_overviews([2, 4])
    picture = decode(path.read_bytes(), "x.tif")
    assert np.array_equal(picture.pixels[:, :, 0], GREY)
    assert np.array_equal(picture.valid, ALPHA > 0)


@pytest.mark.parametrize(
    ("profile", "place"),
    [
        ({}, ""),
        ({"crs": "EPSG:32633", "transform": Affine(3, 0, 5, 0, -3, 9)}, "CRS, geotransform"),
        ({"transform": Affine(3, 0, 5, 0, -3, 9)}, "geotransform"),
        (
            {
                "crs": "EPSG:32633",
                "gcps": [GroundControlPoint(r, c, c, r) for r, c in ((0, 0), (0, 9), (9, 0), (9, 9))],
            },
            "ground",
        ),
    ],
    ids=["none", "crs", "geotransform", "points"],
)
def test_its_place_is_told(profile, place):
    found = decode(by_gdal(GREY, **profile), "x.tif").place
    assert found == place or (place == "ground" and "ground control points" in found)


def test_a_stack_of_imagej_is_no_picture():
    description = "ImageJ=1.53t\nimages=7\nslices=7\n"
    with pytest.raises(SourceError, match="is an ImageJ stack of 7 images; save each as a file of its own"):
        decode(by_pillow(GREY, "TIFF", tiffinfo={270: description}), "x.tif")
    one = by_pillow(GREY, "TIFF", tiffinfo={270: description.replace("images=7", "images=1")})
    assert decode(one, "x.tif").kind == "grey"
