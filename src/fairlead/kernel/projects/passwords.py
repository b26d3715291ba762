"""Passwords: argon2id hashes, a few sane rules, and checks that take as long for unknown users."""

import secrets
import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from fairlead.kernel.errors import InvalidInput

MIN_LENGTH = 12
MAX_LENGTH = 256  # hashing cost must not be the caller's choice

# RFC 9106's second recommendation, written out: the hash below must cost the same as users' hashes.
_HASHER = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=4)
# Each hash takes 64 MiB: a burst of logins must not take the machine's memory.
_AT_ONCE = threading.BoundedSemaphore(4)
# Of a random string that nobody kept: what an unknown user's password is compared with.
NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$5fD1Qa361/Oye0mKk9Q4Tg$9ovZE3nvXR0gcABoq6q2g5iot6mcr2dq/Fu3WyyLutM"


class PasswordRefused(InvalidInput):
    """The password does not keep the rules."""

    code = "users.password_refused"


def check_rules(password: str, username: str) -> None:
    """Raises PasswordRefused; the message never holds the password."""
    remedy = f"Choose at least {MIN_LENGTH} characters that do not contain the username; a sentence is fine."
    if len(password) < MIN_LENGTH:
        raise PasswordRefused(f"The password is shorter than {MIN_LENGTH} characters.", remedy=remedy)
    if len(password) > MAX_LENGTH:
        raise PasswordRefused(f"The password is longer than {MAX_LENGTH} characters.", remedy=remedy)
    # A username inside a much longer passphrase does no harm.
    if username in password.lower() and len(password) - len(username) < MIN_LENGTH:
        raise PasswordRefused("The password is little more than the username.", remedy=remedy)
    if len(set(password)) < 5:
        raise PasswordRefused("The password repeats the same few characters.", remedy=remedy)


def generate() -> str:
    """A new password of 120 random bits."""
    return secrets.token_urlsafe(15)


def hashed(password: str) -> str:
    """The argon2id hash to store. Takes tens of milliseconds: never inside a transaction."""
    with _AT_ONCE:
        return _HASHER.hash(password)


def matches(password: str, password_hash: str | None) -> bool:
    """Whether `password` is the one behind the hash; None (no such user) takes as long and is False."""
    with _AT_ONCE:
        try:
            return _HASHER.verify(password_hash or NOBODY, password[: MAX_LENGTH + 1]) and bool(password_hash)
        except (VerificationError, InvalidHashError):
            return False


def outdated(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(password_hash)
