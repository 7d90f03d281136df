import numpy as np
import rasterio
from encoded import ALPHA, GREY, RGB, by_gdal

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
