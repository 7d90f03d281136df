"""What runs a network: one module for each engine, and the graphs that are derived for them.

Enters: a model package and arrays (tiles, channels, rows, columns). Leaves: class ids or scores of each
pixel. An engine knows no scene, no job and no storage. `base` names the engines and imports one when it is
asked for.
"""
