"""Invitations of a study, and the seal on a vote file that only an invited person can make."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no letter looks like another one
LENGTH = 12  # letters: 60 bits
FORMAT = "rerender-votes/1"

Vote = tuple[int, str, str, int]
"""Number of the trial, of the question, "left" or "right", and milliseconds until the answer."""


def code(secret: str, person: int) -> str:
    """The invitation of a person: 12 letters that nobody can guess without the secret."""
    digest = hmac.digest(secret.encode(), f"person {person}".encode(), "sha256")
    number = int.from_bytes(digest, "big")
    return "".join(ALPHABET[number >> 5 * k & 31] for k in range(LENGTH))


def spaced(invitation: str) -> str:
    """An invitation as it is sent: three groups of four letters."""
    return "-".join(invitation[k : k + 4] for k in range(0, LENGTH, 4))


def person_id(invitation: str) -> str:
    """What stands in the page and in a vote file; it does not tell the invitation."""
    return hashlib.sha256(f"rerender study {invitation}".encode()).hexdigest()[:16]


def seal(invitation: str, study: str, votes: Sequence[Vote]) -> str:
    """HMAC-SHA256 of a vote file under the invitation of the person who votes."""
    lines = [FORMAT, study, person_id(invitation), *(" ".join(map(str, vote)) for vote in votes)]
    return hmac.new(invitation.encode(), "\n".join(lines).encode(), "sha256").hexdigest()
