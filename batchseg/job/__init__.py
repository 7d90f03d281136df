"""A job file made into frozen values, and with its model into a recipe: all that decides a pixel.

Enters: a YAML file and overrides, then what the model's files say. Leaves: `JobConfig`, `Recipe`, `Product`.
It reads no source, no storage and no output, and runs nothing.

The way of a key: `schema` declares it (`schema_parts`: what stands below it), `messages` words its errors,
`file` turns it into `settings`. `resolve` makes of that and the model what `recipe` holds, rules as
`Criterion`: a key that decides a pixel enters `Recipe.settings`. `python docs/job_keys.py` writes the tables
of keys. Only `file`, `schema`, `schema_parts` and `messages` know pydantic.
"""
