"""Networks derived from a package: baked, converted, cached by content.

Enters: a package, and what its engine loads. Leaves: a `Network`, files that the engine can load. `derive` is
the way in. The package's own files stay as they are, and an encrypted one is never converted or baked.
"""
