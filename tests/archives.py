"""Archives that tests lay out, and what a job finds in them."""

from pathlib import Path

from factories import find_sources, make_config


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"pixels")


def find(*patterns, recorded=None, **changes):
    inputs = tuple(p if isinstance(p, tuple) else (None, str(p)) for p in patterns)
    return find_sources(make_config(inputs=inputs, **changes), recorded or {})


def ids(*patterns, **changes) -> list[str]:
    return [source.source_id for source in find(*patterns, **changes)[0]]
