"""The HTTP door of `support`: the Zendesk app and its sessions, customers, bindings and agents."""

from fastapi import APIRouter

from fairlead.support import account_routes, zendesk_routes
from fairlead.support.door import SupportDoor
from fairlead.support.zendesk_routes import FORMS

__all__ = ["FORMS", "SupportDoor", "router"]


def router(door: SupportDoor) -> APIRouter:
    """The routes of `support`, bound to the opened parts."""
    routes = APIRouter()
    routes.include_router(zendesk_routes.router(door))
    routes.include_router(account_routes.router(door))
    return routes
