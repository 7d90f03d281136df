"""Credentials taken out of what is shown and recorded: texts of any kind, URLs among them.

Credentials are known by a URL's form and by the names of variables and options. Two kinds have neither in a
text, so this process remembers them: the user part of addresses that it uses, which clients quote without
their protocol, and what the job file took from the environment.
"""

import functools
import os
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Set
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

_USER = re.compile(
    r"(?<=://)(?:[^\s/'\"<>?#]*@"  # up to the last @ before the host's end: a password may hold one
    r"|(?!arn:)[^\s/:@'\"<>?#]+:(?!\d*(?:[/?#]|$))[^\s'\"<>@]*@)"  # or a slash, as keys of S3 do; no port
)
_QUERY = re.compile(r"\?[^\s?'\"<>]+")
_NAMED_SECRET = re.compile(r"(?i).*(SECRET|PASSW(OR)?D|TOKEN|CONNECTION_STRING|ACCOUNT_KEY|API_?KEY|_KEY)$")
_OPTION = re.compile(
    r"(?i)(key|auth|cookies?|sas|.*(secret|passw(or)?d|token|credential|connection_string|authorization"
    r"|(account|access|private|api)[-_]?key).*)"
)
_SHOWN_OPTION = re.compile(r"(?i).*(url|uri|endpoint|file|path)$")
_BESIDE_SECRET = re.compile(r"(?i)(type|.*(email|_id|domain))")
"""What a Google account's key holds beside the key, and messages need."""

MAY_HOLD_CREDENTIALS = r"://[^/]*@|://[^/:]*:\d*[^\d/].*@|://.*\?"
"""What `public` may change, as RE2 of Arrow has it: few rows of a table."""

MOST_USERS = 1000
"""User parts that are remembered: a manifest may hold a million."""

_users: set[str] = set()
_variables: dict[str, str] = {}
"""`${NAME}` by the value that it stood for."""


def public(uri: str) -> str:
    """A URI without user, password and signature: what names a file, and stays when it is signed again."""
    if "://" not in uri:
        return uri
    return _QUERY.sub(_without_signature, _USER.sub("", uri))


def hidden(text: str) -> str:
    """A text for people, without what URLs hold of credentials, and without the secrets of this process."""
    return _hidden(text, _secrets() | _users) if text else text


def _hidden(text: str, secrets: Set[str]) -> str:
    if "://" in text or "?" in text:
        text = _QUERY.sub(_without_signature, _USER.sub(f"{STARS}@", text))
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, STARS)
    return text


def impersonal(text: str) -> str:
    """As `hidden`, and with `${NAME}` in place of what the job file took from the environment.

    A variable may be a part of a secret, or of an address's user part, whose rest is hidden too.
    """
    if not text:  # as of nearly all records
        return text
    for value in sorted(_variables, key=len, reverse=True):
        if "://" in value and _USER.search(value):
            text = _with_name_for(value, text)
    text = _USER.sub(f"{STARS}@", text)
    secrets = _secrets() | _users
    for part in sorted(secrets | _variables.keys(), key=len, reverse=True):
        text = _with_name_for(part, text) if part in _variables else text.replace(part, STARS)
    return _hidden(text, secrets)


def _with_name_for(value: str, text: str) -> str:
    return re.sub(_pattern(value), _variables[value], text) if value in text else text


def _pattern(value: str) -> str:
    """Where a value is meant: a word such as `images` is found in what batchseg says by itself, too."""
    found = re.escape(value)
    return rf"(?<=[/'\"=&@:]){found}|{found}(?=[/'\"=&@:])" if value.isalpha() else found


def remember_user(uri: str) -> None:
    """Hide the user part of an address from now on, also where it stands without the address."""
    if "@" not in uri or len(_users) >= MOST_USERS:
        return
    for user in _USER.findall(uri):
        whole = user.removesuffix("@")
        parts = (whole, whole.partition(":")[2], *whole.split("/"))  # S3 takes a slash for a bucket's end
        _users.update(
            spelt for part in parts for spelt in (part, urllib.parse.unquote(part)) if len(spelt) >= SHORTEST
        )


def remember_variables(values: Mapping[str, str]) -> None:
    """Name variables in `impersonal` texts from now on, instead of what they hold.

    Args:
        values: by name. Those shorter than SHORTEST would be found in other words, and stay.
    """
    _variables.update(
        {value: f"${{{name}}}" for name, value in values.items() if len(value.strip()) >= SHORTEST}
    )


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


def _secrets() -> frozenset[str]:
    """Of the environment, by the names of its variables; a job's storage options are there as well."""
    return _secrets_of(tuple(os.environb.items()))  # which decodes nothing


@functools.lru_cache(maxsize=1)  # a line of the log would cost a millisecond
def _secrets_of(environment: tuple[tuple[bytes, bytes], ...]) -> frozenset[str]:
    found = set()
    for name, value in ((os.fsdecode(name), os.fsdecode(value)) for name, value in environment):
        if name.startswith("FSSPEC_"):
            found |= set(_in_options(value))
        elif _NAMED_SECRET.fullmatch(name):
            found.add(value)
    return frozenset(value for value in found if len(value) >= SHORTEST and not value.isspace())


def _in_options(text: str) -> Iterator[str]:
    try:
        options = parse_json(text)
    except ValueError:
        return
    yield from _below(options)


def _below(options: Any, *, secret: bool = False) -> Iterator[str]:
    """Values that are secrets by the name of their option, or of one around it."""
    if isinstance(options, Mapping):
        for name, value in options.items():
            is_secret = _OPTION.fullmatch(name) or (secret and not _BESIDE_SECRET.fullmatch(name))
            yield from _below(value, secret=bool(is_secret) and not _SHOWN_OPTION.fullmatch(name))
    elif isinstance(options, list):
        for value in options:
            yield from _below(value, secret=secret)
    elif secret and isinstance(options, str):
        yield options
