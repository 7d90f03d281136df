"""Photographs as files, by encoders that are not ours."""

import io

import cv2
import numpy as np
import rasterio
from PIL import Image
from rasterio.io import MemoryFile

HEIGHT, WIDTH = 31, 47


def smooth(dtype=np.uint8, channels=3):
    """Waves of different lengths: no two sides alike, kind to lossy formats."""
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    waves = [np.sin(rows / (6 + b)) + np.cos(cols / (9 + 3 * b)) + rows / 31 for b in range(channels)]
    most = np.iinfo(dtype).max
    return ((np.stack(waves, -1) + 2) / 5 * most).clip(0, most).astype(dtype)


RGB = smooth()


GREY = RGB[:, :, 0]


ALPHA = np.where(np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) % 5 == 0, 0, 3).astype(np.uint8)


DEEP = smooth(np.uint16)


BITS = GREY > 127


def by_pillow(image, form, **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def by_opencv(pixels, suffix, options=()):
    """Of RGB or grey pixels."""
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(pixels.shape[2] if pixels.ndim == 3 else 1)
    return cv2.imencode(suffix, pixels if order is None else pixels[:, :, order], list(options))[1].tobytes()


def by_gdal(bands, **profile):
    bands = bands[None] if bands.ndim == 2 else np.moveaxis(bands, 2, 0)
    profile = {"driver": "GTiff", "count": len(bands), "dtype": bands.dtype, **profile}
    colormap = profile.pop("colormap", None)
    with rasterio.Env(), MemoryFile() as memory:
        with memory.open(height=HEIGHT, width=WIDTH, **profile) as dataset:
            if colormap:
                dataset.write_colormap(1, colormap)
            dataset.write(bands)
        return bytes(memory.read())


PALETTE = Image.fromarray(RGB).quantize(16)


RGBA = np.dstack([RGB, ALPHA])


CMYK = Image.merge("CMYK", [Image.fromarray(band) for band in (*RGB.transpose(2, 0, 1), GREY // 2)])


WHOLE = {
    "JPEG": by_opencv(RGB, ".jpg"),
    "progressive JPEG": by_pillow(RGB, "JPEG", progressive=True),
    "grey JPEG": by_pillow(GREY, "JPEG"),
    "CMYK JPEG": by_pillow(CMYK, "JPEG"),
    "PNG": by_opencv(RGB, ".png"),
    "16-bit PNG": by_opencv(DEEP, ".png"),
    "palette PNG": by_pillow(PALETTE, "PNG", transparency=3),
    "BMP": by_opencv(RGB, ".bmp"),
    "palette BMP": by_pillow(PALETTE, "BMP"),
    "1-bit BMP": by_pillow(BITS, "BMP"),
    "GIF": by_pillow(PALETTE, "GIF"),
    "WebP": by_opencv(RGB, ".webp"),
    "lossless WebP": by_pillow(RGBA, "WEBP", lossless=True),
    "TIFF": by_pillow(RGB, "TIFF"),
    "LZW TIFF": by_opencv(RGB, ".tiff"),
    "tiled TIFF": by_gdal(DEEP, tiled=True, blockxsize=16, blockysize=16, compress="deflate"),
    "JPEG TIFF": by_gdal(RGB, photometric="YCBCR", compress="jpeg"),
    "1-bit TIFF": by_pillow(BITS, "TIFF", compression="group4"),
    "CMYK TIFF": by_pillow(CMYK, "TIFF"),
    "LZW CMYK TIFF": by_pillow(CMYK, "TIFF", compression="tiff_lzw"),
    "YCbCr TIFF": by_pillow(Image.fromarray(RGB).convert("YCbCr"), "TIFF"),
}
