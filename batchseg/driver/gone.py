"""Sources of earlier runs that this one did not find: those that are gone, and those that may be there still.

`batchseg prune` removes the results of what is gone. Where a row of a list could not be read or passed for a
comment, or a folder or an archive is closed, a source was merely not seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import pyarrow as pa

from batchseg.inputs.ids import in_utf8
from batchseg.inputs.left_out import LeftOut, archives_unread, closed_folders, commented_lines
from batchseg.inputs.manifest import member_uri
from batchseg.inputs.source import Column
from batchseg.inputs.source import compute as pc
from batchseg.system import archives
from batchseg.system.amounts import counted
from batchseg.system.redact import public


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Of the sources that the ledger knows and the inputs did not show."""

    ids: tuple[str, ...] = ()
    """That are gone, sorted."""
    unseen: int = 0
    """Others, which may be there."""
    why: tuple[str, ...] = ()
    """Why these may be, in lines; empty where there are none."""
    left_out: tuple[str, ...] = ()
    """What of the inputs is none or was not seen, in lines; those of `unseen` sources included."""
    broken: tuple[str, ...] = ()
    """Of these lines those of rows that are broken: work that is not done."""


def gone_of(unfound: Sequence[str], known: pa.Table, left_out: LeftOut) -> Gone:
    """Which sources are gone.

    Args:
        unfound: their ids, sorted.
        known: the ledger's latest row of each source.
        left_out: what the listing did not show.
    """
    gone = _gone_of(unfound, known, left_out)
    lines = (*left_out.lines(), *_unseen_words(gone))
    return replace(gone, left_out=lines, broken=left_out.broken())


def _unseen_words(gone: Gone) -> tuple[str, ...]:
    """A line for those that may be there, or none."""
    if not gone.unseen:
        return ()
    it = "it does" if gone.unseen == 1 else "they do"
    return (
        f"{counted(gone.unseen, 'source')} of earlier runs may be among what could not be read "
        f"({'; '.join(gone.why)}): {it} not count as gone",
    )


def _gone_of(unfound: Sequence[str], known: pa.Table, left_out: LeftOut) -> Gone:
    if not (unfound and (left_out.unread or left_out.closed or left_out.archives or left_out.comments)):
        return Gone(ids=tuple(unfound))
    if left_out.unread:  # which sources these rows name, nobody knows
        return Gone(unseen=len(unfound), why=tuple(in_utf8(line)[0] for line in left_out.unread))
    names = known["source_id"].cast(pa.string())
    rows = pc.is_in(names, value_set=pa.array(unfound, pa.string()))
    names, uris = names.filter(rows), known["uri"].cast(pa.string()).filter(rows)
    closed = _lies_in(uris, [f"{folder.rstrip('/')}/" for folder in left_out.closed])
    packed = _lies_in(uris, [archives.member_uri(archive, "") for archive in left_out.archives])
    commented, lists = _is_commented(names, uris, left_out)
    hidden = pc.or_(pc.or_(closed, packed), commented)
    ids = [str(name) for name in names.filter(pc.invert(hidden)).to_pylist()]
    why = [closed_folders(in_utf8(folder)[0] for folder in left_out.closed)] if pc.any(closed).as_py() else []
    why += [in_utf8(archives_unread(left_out.archives))[0]] if pc.any(packed).as_py() else []
    why += [in_utf8(commented_lines(lists))[0]] if lists else []
    return Gone(ids=tuple(ids), unseen=len(names) - len(ids), why=tuple(why))


def _lies_in(uris: Column, places: Sequence[str]) -> Column:
    """Of each source, whether it may lie in one of the folders or archives, as URIs in these begin."""
    within = [pc.starts_with(uris, in_utf8(place)[0]) for place in sorted(places)]
    # Ledgers of early versions do not say where a source was.
    nowhere = pc.and_(pc.equal(uris, ""), pa.scalar(bool(places)))
    return reduce(pc.or_, within, nowhere)


def _is_commented(names: Column, uris: Column, left_out: LeftOut) -> tuple[Column, list[str]]:
    """Of each source, whether a line that begins with # names it; and the lists of these lines."""
    lists: dict[str, str] = {}
    for listed, line in left_out.comments:
        text = in_utf8(line)[0]
        lists[text.removesuffix("/")] = lists[public(member_uri(text, listed))] = listed
    keys = pa.array(list(lists), pa.string())
    found = pc.or_(pc.is_in(names, value_set=keys), pc.is_in(uris, value_set=keys))
    both = [*names.filter(found).to_pylist(), *uris.filter(found).to_pylist()]
    return found, sorted({lists[key] for key in both if key in lists})
