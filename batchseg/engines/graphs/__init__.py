"""Networks derived from a package: baked, converted, cached by content."""
