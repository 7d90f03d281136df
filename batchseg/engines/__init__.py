"""What runs a network: one module for each engine, and the graphs that are derived for them.

Enters: a model package, and batches in the network's layout and dtype. Leaves: class ids or scores of each
pixel. An engine knows no scene, no job and no storage. To add one: a module here, its line in `base.ENGINES`,
its name in `models.package.EngineName`. The job's schema and `engine: auto` follow from that name.
"""
