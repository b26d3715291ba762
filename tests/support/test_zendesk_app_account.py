"""The head of the packaged Zendesk app in real Chromium: which account the ticket is about, and who may choose it."""
# Rows of tables and JavaScript stay on one line.
# ruff: noqa: E501

import json
from typing import Any

import pytest

from tests.support.chromium import Page
from tests.support.zendesk_page import APP, address, browser, ticket

__all__ = ["address", "browser", "ticket"]

DOC = f"{APP}.document"
ONE = {"account": "111122223333", "name": "Hangang Foods"}
TWO = {"account": "444455556666", "name": "<img src=x onerror=parent.pwned=1>"}


def greet(
    page: Page, account: str | None, role: str, choices: list[dict[str, str]], *, refusal: str = ""
) -> None:
    """What the server says after connecting, and what it will answer over HTTP."""
    answer = {"account": account, "choices": choices}
    problem = {"detail": refusal, "remedy": "Ask an administrator."}
    page.evaluate(
        f"""{APP}.calls = []; {APP}.fetch = async (url, {{method, headers, body}}) => {{
  {APP}.calls.push({{method, path: url.pathname, proof: headers.Authorization, body: body && JSON.parse(body)}});
  if (method === 'GET') return new {APP}.Response({json.dumps(json.dumps(answer))});
  return {json.dumps(bool(refusal))} ? new {APP}.Response({json.dumps(json.dumps(problem))}, {{status: 403}}) : new {APP}.Response(null, {{status: 204}});
}}"""
    )
    hello = json.dumps({"account": account, "organization": "1", "role": role})
    page.evaluate(f"{APP}.wire.emit('hello', {hello})")


def calls(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate(f"{APP}.calls")
    return found


def head(page: Page) -> str:
    return str(page.evaluate(f"{DOC}.querySelector('.account').innerText.trim()"))


def choose(page: Page, account: str) -> None:
    page.evaluate(
        f"(() => {{ const field = {DOC}.querySelector('.choice'); field.value = '{account}'; field.dispatchEvent(new {APP}.Event('change')); }})()"
    )


def test_a_lead_chooses_the_account_of_a_ticket_whose_organization_has_several(ticket: Page) -> None:
    greet(ticket, None, "lead", [ONE, TWO])
    ticket.until(f"{DOC}.querySelector('.choice')")
    shown = ticket.evaluate(f"[...{DOC}.querySelectorAll('.choice option')].map((o) => o.textContent)")
    assert shown == ["Choose one…", f"Hangang Foods · {ONE['account']}", f"{TWO['name']} · {TWO['account']}"]
    assert ticket.evaluate(f"{DOC}.querySelector('.choice').labels[0].innerText").startswith("AWS account")
    choose(ticket, ONE["account"])
    ticket.until(f"{DOC}.querySelector('.toast').textContent === 'This ticket is now about {ONE['account']}'")
    number = ticket.evaluate("document.getElementById('ticket').textContent")
    path = f"/support/zendesk/tickets/{number}/account"
    assert calls(ticket) == [
        {"method": "GET", "path": path, "proof": "Bearer session-1"},
        {"method": "PUT", "path": path, "proof": "Bearer session-1", "body": {"account": ONE["account"]}},
    ]
    ticket.until(f"{DOC}.querySelector('.choice:not(:disabled)')?.value === '{ONE['account']}'")
    assert ticket.evaluate(f"{DOC}.activeElement.className") == "choice"
    assert ticket.evaluate(f"{DOC}.querySelectorAll('.choice option').length") == 2
    assert ticket.evaluate("window.pwned ?? null") is None


def test_a_choice_that_is_refused_is_not_shown_as_made(ticket: Page) -> None:
    greet(ticket, ONE["account"], "lead", [ONE, TWO], refusal="This account was taken away.")
    ticket.until(f"{DOC}.querySelector('.choice')")
    choose(ticket, TWO["account"])
    ticket.until(f"{DOC}.querySelector('.toast').textContent.includes('was taken away. Ask an admin')")
    ticket.until(f"{DOC}.querySelector('.choice:not(:disabled)')?.value === '{ONE['account']}'")


@pytest.mark.parametrize(
    ("account", "role", "choices", "said"),
    [
        (None, "agent", [ONE, TWO], "The organization has several AWS accounts. A lead has to choose one for this ticket."),
        (None, "agent", [], "No account is bound to this ticket"),
        (None, "lead", [], "No account is bound to this ticket"),
        ("111122223333", "agent", [ONE, TWO], "AWS account 111122223333"),
        ("111122223333", "lead", [ONE], "AWS account 111122223333"),
    ],
    ids=["agents do not choose", "nothing is bound", "there is nothing to choose", "bound", "the only one"],
)  # fmt: skip
def test_where_nothing_can_be_chosen_the_head_says_how_it_is(
    ticket: Page, account: str | None, role: str, choices: list[dict[str, str]], said: str
) -> None:
    greet(ticket, account, role, choices)
    ticket.until(f"{DOC}.querySelector('.account').innerText.trim() === {json.dumps(said)}")
    assert ticket.evaluate(f"{DOC}.querySelector('.choice')") is None
    assert len(calls(ticket)) == (0 if account and role == "agent" else 1)


def test_a_greeting_that_changes_nothing_leaves_the_choice_under_the_hand(ticket: Page) -> None:
    greet(ticket, ONE["account"], "administrator", [ONE, TWO])
    ticket.until(f"{DOC}.querySelector('.choice')")
    ticket.evaluate(f"{DOC}.querySelector('.choice').mine = true")
    greet(ticket, ONE["account"], "administrator", [ONE, TWO])
    ticket.until(f"{APP}.calls.length === 1")
    assert ticket.evaluate(f"{DOC}.querySelector('.choice').mine") is True
    assert head(ticket).startswith("AWS account")
