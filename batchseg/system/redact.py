"""Credentials taken out of what is shown and recorded: texts of any kind, URLs among them."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from batchseg.system.json_text import parse_json

SHORTEST = 6
"""Characters of a secret that is looked for in texts: a shorter one would be found in other words."""

STARS = "***"

_SIGNATURE = re.compile(
    r"(?i)(x-(amz|goog|oss|ms)-.*|.*(signature|token|secret|passw(or)?d|credential|api[-_]?key|access[-_]?key).*"
    r"|sig|auth|key|pwd)"
)
"""Parameters of a URL's query that are secrets, or that change with them."""

_BESIDE_SIGNATURE = re.compile(
    r"(?i)(s[eptrvi]|spr|sip|sk(oid|tid|[tesv])|expires|key-pair-id|policy|googleaccessid)"
)
"""Parameters that come with a signature and change with it: Azure's, CloudFront's, older S3's."""

_USER = re.compile(r"(?<=://)[^\s/@'\"<>?#]*@")
_QUERY = re.compile(r"\?[^\s?'\"<>]+")
_NAMED_SECRET = re.compile(r"(?i).*(SECRET|PASSW(OR)?D|TOKEN|CONNECTION_STRING|ACCOUNT_KEY|API_?KEY|_KEY)$")
_OPTION = re.compile(r"(?i)(key|.*(secret|passw(or)?d|token|connection_string|account_key|access_key).*)")
_SHOWN_OPTION = re.compile(r"(?i).*(url|endpoint|file|path)$")


def public(uri: str) -> str:
    """A URI without user, password and signature: what names a file, and stays when it is signed again."""
    if "://" not in uri:
        return uri
    return _QUERY.sub(_without_signature, _USER.sub("", uri))


def hidden(text: str) -> str:
    """A text for people, without what URLs hold of credentials, and without the secrets of this process."""
    if not text:
        return text
    if "://" in text or "?" in text:
        text = _QUERY.sub(_without_signature, _USER.sub(f"{STARS}@", text))
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, STARS)
    return text


def _without_signature(query: re.Match[str]) -> str:
    parts = query[0][1:].split("&")
    names = [part.partition("=")[0] for part in parts]
    if not any("=" in part and _SIGNATURE.fullmatch(name) for part, name in zip(parts, names, strict=True)):
        return query[0]
    kept = [
        part
        for part, name in zip(parts, names, strict=True)
        if not _SIGNATURE.fullmatch(name) and not _BESIDE_SIGNATURE.fullmatch(name)
    ]
    return "?" + "&".join(kept) if kept else ""


def _secrets() -> set[str]:
    """Of the environment, by the names of its variables; a job's storage options are there as well."""
    found = set()
    for name, value in os.environ.items():
        if name.startswith("FSSPEC_"):
            found |= set(_in_options(value))
        elif _NAMED_SECRET.fullmatch(name):
            found.add(value)
    return {value for value in found if len(value) >= SHORTEST and not value.isspace()}


def _in_options(text: str) -> Iterator[str]:
    try:
        options = parse_json(text)
    except ValueError:
        return
    yield from _below(options)


def _below(options: Any) -> Iterator[str]:
    if not isinstance(options, Mapping):
        return
    for name, value in options.items():
        if isinstance(value, str) and _OPTION.fullmatch(name) and not _SHOWN_OPTION.fullmatch(name):
            yield value
        yield from _below(value)
