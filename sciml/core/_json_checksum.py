"""A checksum of what a JSON file says, whatever its layout."""

import hashlib
import json
from typing import Any


def json_checksum(content: Any) -> str:
    """Return the SHA-256 sum of a value that JSON can hold; order of keys and spaces do not count.

    Raises
    ------
    RecursionError
        If it is nested too deeply.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
