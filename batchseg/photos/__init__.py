"""Photographs: many small images without a place, a verdict for each."""
