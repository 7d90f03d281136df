"""Which sources there are: listings, manifests, scene sets, and the ids by which an output knows them.

Enters: a job's inputs and the storages. Leaves: sources with an id and a tag that changes when the file does.
It opens no raster and decodes no photograph: `formats` looks at first bytes, `metadata` at the files beside a
scene.
"""
