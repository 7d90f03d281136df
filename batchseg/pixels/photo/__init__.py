"""Photographs decoded: JPEG, TIFF, and whatever Pillow reads, each to the same picture."""
