"""Ids that are derived from an account's: unique, repeatable, and never longer than a contract allows."""

import functools
import hashlib

MAX_ACCOUNT_PART = 80
"""Longest account id that goes into other ids as it is, so that number and time still fit into 128 characters."""


@functools.lru_cache(maxsize=65_536)
def short(account_id: str) -> str:
    """`account_id` itself, or, where it is too long to be a part of another id, 40 hexadecimal digits of its digest."""
    if len(account_id) <= MAX_ACCOUNT_PART:
        return account_id
    return hashlib.blake2b(account_id.encode(), digest_size=20).hexdigest()
