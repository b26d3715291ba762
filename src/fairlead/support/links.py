"""Links to stored reports: signed, short-lived, good for one file of one record and for who asked for it.

A browser's frame can send no header, so the link itself is the proof. What it opens runs nothing and loads
nothing, whatever somebody managed to write into a tag.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import jwt

from fairlead.kernel.errors import FairleadError, Forbidden
from fairlead.kernel.projects.tokens import SigningKey
from fairlead.support.markup import element
from fairlead.support.model import Language

_ALGORITHM, _AUDIENCE = "HS256", "fairlead:support-report"
CLAIMS = ("exp", "sub", "file", "by")
# No scripts, no forms, no cookies; only references may open, in a tab of their own.
SANDBOX = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "sandbox allow-popups allow-popups-to-escape-sandbox"
)


class LinkInvalid(Forbidden):
    """This link does not open this report."""

    code = "support.link_invalid"


class LinkExpired(FairleadError):
    """This link has expired."""

    code, status, retryable = "support.link_expired", 410, False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What a link proves: `actor` may see `file` of `record` until `expires_at`."""

    record: str
    file: str
    actor: str
    expires_at: datetime

    @property
    def path(self) -> str:
        """Where the file is, without the proof."""
        return path_of(self.record, self.file)


def key_of(key: SigningKey) -> bytes:
    """What signs links, derived from the server's key."""
    return hmac.digest(key.value, b"fairlead support report links", "sha256")


def path_of(record: str, file: str) -> str:
    """Where a file of a record is on this server."""
    return f"/support/reports/{record}/{file}"


def sign(key: bytes, link: Link) -> str:
    """The address of `link` on this server, proof included. `key` signs nothing else."""
    claims = {
        "aud": _AUDIENCE,
        "exp": int(link.expires_at.timestamp()),
        "sub": link.record,
        "file": link.file,
        "by": link.actor,
    }
    return f"{link.path}?link={jwt.encode(claims, key, algorithm=_ALGORITHM)}"


def read(key: bytes, proof: str, *, record: str, file: str, now: datetime) -> Link:
    """What `proof` proves for `file` of `record` at `now`. Raises LinkExpired, LinkInvalid."""
    try:
        # The algorithm is ours, never the proof's choice; PyJWT compares signatures in constant time.
        claims = jwt.decode(
            proof,
            key,
            algorithms=[_ALGORITHM],
            audience=_AUDIENCE,
            options={"require": ["aud", *CLAIMS], "verify_exp": False, "verify_iat": False},
        )
        link = Link(
            record=str(claims["sub"]),
            file=str(claims["file"]),
            actor=str(claims["by"]),
            expires_at=datetime.fromtimestamp(int(claims["exp"]), tz=now.tzinfo),
        )
    except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, OSError):
        raise _invalid() from None
    if (link.record, link.file) != (record, file):
        raise _invalid()
    if now >= link.expires_at:
        raise LinkExpired(remedy="Open the report again from the ticket, or ask for a new link.")
    return link


def _invalid() -> LinkInvalid:
    return LinkInvalid(remedy="Open the report from its ticket, or ask for a new link.")


def lifetime(now: datetime, link_s: int, kept_until: datetime) -> datetime:
    """When a link made `now` ends: after `link_s` seconds, and never after the report itself."""
    return min(now + timedelta(seconds=link_s), kept_until)


def policy(ancestors: Iterable[str | None]) -> str:
    """The content security policy of a stored file; `ancestors` are origins that may show it in a frame."""
    origins = ("'self'", *sorted({origin for origin in ancestors if origin}))
    return f"{SANDBOX}; frame-ancestors {' '.join(origins)}"


_WORDS = {
    Language.KOREAN: {
        LinkExpired.code: ("링크가 만료되었습니다", "티켓에서 보고서를 다시 여세요."),
        LinkInvalid.code: (
            "이 링크로는 보고서를 열 수 없습니다",
            "링크가 잘못되었거나 다른 보고서의 것입니다. 티켓에서 보고서를 다시 여세요.",
        ),
        "": ("보고서가 없습니다", "보관 기간이 지나 삭제되었을 수 있습니다. 다시 요청하세요."),
    },
    Language.ENGLISH: {
        LinkExpired.code: ("This link has expired", "Open the report again from its ticket."),
        LinkInvalid.code: (
            "This link does not open a report",
            "It was changed on its way, or belongs to another report. Open the report from its ticket.",
        ),
        "": ("This report is no longer here", "It may have been kept long enough. Ask for it again."),
    },
}


def refusal(code: str) -> str:
    """A page that says, in both languages, why a link opens nothing and what to do."""
    parts = []
    for language in Language:
        title, what_next = _WORDS[language].get(code) or _WORDS[language][""]
        parts.append(
            element(
                "section", {"lang": language.value}, element("h1", None, title), element("p", None, what_next)
            )
        )
    head = element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"name": "referrer", "content": "no-referrer"}),
        element("title", None, "Fairlead"),
    )
    style = {"style": "font:16px/1.6 system-ui,sans-serif;max-width:36rem;margin:4rem auto;padding:0 1rem"}
    return f"<!doctype html>\n{element('html', {'lang': 'ko'}, head, element('body', style, *parts))}\n"
