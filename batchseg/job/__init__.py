"""A job file made into frozen values, and with its model into a recipe: all that decides a pixel.

Enters: a YAML file and overrides, then what the model's files say. Leaves: `JobConfig`, `Recipe`, `Product`.
It reads no source, no storage and no output, and runs nothing. Only `file`, `schema` and `messages` know
pydantic.
"""
