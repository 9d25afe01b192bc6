"""Who does something, as it goes on record: the account that is certain, and what somebody says of himself."""

from __future__ import annotations

import os
import pwd
from unicodedata import category

TEXT_LIMIT = 500
"""Most characters of what somebody says."""
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # Categories of Unicode; Cf turns text around, or hides.


def account_name(user: int) -> str:
    """The name of an account by its user ID; a number where it has no name."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"uid {user}"


def claimed_name() -> str:
    """Whose command this is by the word of sudo or doas, which anybody can set; empty where they say nothing."""
    return os.environ.get("SUDO_USER") or os.environ.get("DOAS_USER") or ""


def claimed_account(vouched: str, claimed: str) -> str:
    """Who asked: the account that is certain, and a name that is only claimed, marked as that."""
    return f"{vouched} (claims to be {claimed})" if claimed not in ("", vouched) else vouched


def own_account() -> str:
    """Who runs this process."""
    return claimed_account(account_name(os.getuid()), seen(claimed_name()))


def seen(text: str) -> str:
    """A text of others: of at most that length, and what cannot be seen in it is a question mark."""
    return "".join("?" if category(each) in _UNSEEN else each for each in text[:TEXT_LIMIT])
