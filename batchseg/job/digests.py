"""Settings in short: equal settings have equal digests."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def digest(settings: Mapping[str, Any]) -> str:
    """The first 16 hexadecimal digits of SHA-256 over JSON with sorted keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
