"""Refusals over HTTP in the language that the caller prefers, as sockets word them in that of the session."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import Response

from fairlead.kernel import telemetry
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.http import invalid_input, problem_response
from fairlead.support.errors_words import worded
from fairlead.support.model import Language

_HEADERS = {"Content-Language": Language.KOREAN.value, "Vary": "Accept-Language"}


def preferred(accept_language: str) -> Language:
    """The language of ours that an Accept-Language prefers; English where it names none of ours."""
    found: dict[Language, float] = {}
    for item in accept_language[:1000].split(","):
        name, _, weight = item.partition(";")
        language = name.strip().casefold().split("-")[0]
        if language in list(Language):
            found.setdefault(Language(language), _weight(weight))
    korean, english = found.get(Language.KOREAN, 0.0), found.get(Language.ENGLISH, 0.0)
    named_first = bool(found) and next(iter(found)) is Language.KOREAN
    return (
        Language.KOREAN if korean > english or (korean == english > 0 and named_first) else Language.ENGLISH
    )


def _weight(text: str) -> float:
    name, _, value = text.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return min(max(float(value), 0.0), 1.0)
    except ValueError:
        return 0.0


class WordedRoute(APIRoute):
    """A route whose refusals are Korean for who prefers that. English is what the errors say themselves."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, with refusals put into words."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            if preferred(request.headers.get("accept-language", "")) is Language.ENGLISH:
                return await handle(request)
            try:
                return await handle(request)
            except RequestValidationError as error:
                return _korean(request, invalid_input(error))
            except FairleadError as error:
                if error.status >= 500:
                    telemetry.log.warning("http.error", code=error.code, message=error.message)
                return _korean(request, error)

        return handled


def _korean(request: Request, error: FairleadError) -> Response:
    said = worded(error.problem(), Language.KOREAN)
    return problem_response(error, str(request.state.request_id), dict(_HEADERS), said=said)
