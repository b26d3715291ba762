"""Users: administrators manage them, everyone sees and corrects their own entry."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from fairlead.api.parts import Parts
from fairlead.kernel import audit
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import Forbidden, InvalidInput
from fairlead.kernel.http import CurrentActor, Page, PageParams, PlainText, page_of
from fairlead.kernel.projects import accounts, passwords, sessions
from fairlead.kernel.projects.access import require_admin, require_credentials
from fairlead.kernel.projects.model import RESERVED_USERNAMES, USERNAME_LENGTH, USERNAME_PATTERN, Actor, User

router = APIRouter(tags=["users"])


def _not_reserved(username: str) -> str:
    if username in RESERVED_USERNAMES:
        raise ValueError("is reserved")
    return username


Username = Annotated[
    str,
    Field(max_length=USERNAME_LENGTH, pattern=USERNAME_PATTERN, examples=["ana"]),
    AfterValidator(_not_reserved),
]
DisplayName = Annotated[PlainText, Field(min_length=1, max_length=200, examples=["Ana Lima"])]
Email = Annotated[str, Field(max_length=254, pattern=r"^[!-?A-~]+@[!-?A-~]+$", examples=["ana@example.com"])]


class UserOut(BaseModel):
    """One user."""

    username: str
    display_name: str
    email: str | None
    is_admin: bool
    disabled: bool
    disabled_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, user: User) -> "UserOut":
        """The form in which clients see it."""
        return cls(
            username=user.username,
            display_name=user.display_name,
            email=user.email,
            is_admin=user.is_admin,
            disabled=user.disabled_at is not None,
            disabled_at=user.disabled_at,
            created_at=user.created_at,
            updated_at=user.updated_at,
        )


class UserIn(BaseModel):
    """A new user."""

    model_config = ConfigDict(extra="forbid")

    username: Username
    display_name: DisplayName | None = None
    email: Email | None = None
    is_admin: bool = False
    password: SecretStr | None = Field(default=None, description="Left out: one is generated and shown once")


class CreatedUserOut(UserOut):
    """The new user, and the password if it was generated."""

    generated_password: str | None = None


class UserChangesIn(BaseModel):
    """What to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    display_name: DisplayName | None = None
    email: Email | None = None
    is_admin: bool | None = None
    disabled: bool | None = None


class OwnPasswordIn(BaseModel):
    """A new password for oneself."""

    model_config = ConfigDict(extra="forbid")

    current_password: SecretStr
    new_password: SecretStr


class PasswordIn(BaseModel):
    """A new password for somebody else."""

    model_config = ConfigDict(extra="forbid")

    new_password: SecretStr | None = Field(
        default=None, description="Left out: one is generated and shown once"
    )


class PasswordOut(BaseModel):
    """The password if it was generated."""

    generated_password: str | None


def _chosen_password(given: SecretStr | None, username: str) -> tuple[str, str | None]:
    """The hash to store, and the password if we made it up."""
    if given is None:
        made_up = passwords.generate()
        return passwords.hashed(made_up), made_up
    passwords.check_rules(given.get_secret_value(), username)
    return passwords.hashed(given.get_secret_value()), None


@router.post("/users", status_code=201)
def create_user(body: UserIn, actor: CurrentActor, api: Parts) -> CreatedUserOut:
    """Add a user. Administrators only."""
    require_admin(actor)
    password_hash, generated = _chosen_password(body.password, body.username)
    with api.database.transaction() as conn:
        user = accounts.create_user(
            conn,
            username=body.username,
            password_hash=password_hash,
            display_name=body.display_name,
            email=body.email,
            is_admin=body.is_admin,
        )
        data = {"is_admin": user.is_admin}
        audit.append(
            conn, actor=actor.username, action="user.created", subject=f"user:{user.username}", data=data
        )
    return CreatedUserOut(**UserOut.of(user).model_dump(), generated_password=generated)


@router.get("/users")
def list_users(actor: CurrentActor, api: Parts, page: PageParams) -> Page[UserOut]:
    """All users, by name. Administrators only."""
    require_admin(actor)
    with api.database.reading() as conn:
        rows = accounts.list_users(conn, after=page.after, limit=page.fetch)
    return page_of(rows, page, position=lambda user: user.username, shape=UserOut.of)


@router.get("/users/{username}")
def get_user(username: str, actor: CurrentActor, api: Parts) -> UserOut:
    """One user; `me` is the caller. Others only for administrators."""
    with api.database.reading() as conn:
        return UserOut.of(accounts.find_user(conn, _named(username, actor)))


def _named(username: str, actor: Actor) -> str:
    """The user meant. Raises Forbidden unless it is the caller's own entry or the caller is administrator."""
    if username in ("me", actor.username):
        return actor.username
    require_admin(actor)
    return username


@router.patch("/users/{username}")
def update_user(username: str, body: UserChangesIn, actor: CurrentActor, api: Parts) -> UserOut:
    """Change a user; `me` is the caller. Disabling ends all sessions at once, and refuses API tokens."""
    name = _named(username, actor)
    changes = _changes(body)
    if changes.keys() & {"is_admin", "disabled_at"}:
        require_admin(actor)
    else:
        require_credentials(actor)
    with api.database.transaction() as conn:
        user = accounts.find_user(conn, name)
        if user.disabled_at and changes.get("disabled_at"):
            changes["disabled_at"] = user.disabled_at
        changed = accounts.update_user(conn, user, changes)
        if changes.get("disabled_at"):
            sessions.end_all(conn, user.id)
        data = {"changed": sorted(body.model_fields_set)}
        audit.append(conn, actor=actor.username, action="user.updated", subject=f"user:{name}", data=data)
    return UserOut.of(changed)


def _changes(body: UserChangesIn) -> dict[str, Any]:
    changes = body.model_dump(exclude_unset=True)
    for name in ("display_name", "is_admin", "disabled"):
        if name in changes and changes[name] is None:
            raise InvalidInput(f"{name}: cannot be null.", remedy="Leave it out to keep it.")
    if "disabled" in changes:
        changes["disabled_at"] = utc_now() if changes.pop("disabled") else None
    return changes


@router.put("/users/me/password", status_code=204)
def change_own_password(body: OwnPasswordIn, actor: CurrentActor, api: Parts) -> None:
    """Change one's own password. Ends all other sessions; API tokens stay."""
    require_credentials(actor)
    with api.database.reading() as conn:
        stored = accounts.password_hash_of(conn, actor.user_id)
    if not passwords.matches(body.current_password.get_secret_value(), stored):
        raise accounts.WrongPassword(remedy="Send the password that you log in with today.")
    password_hash, _ = _chosen_password(body.new_password, actor.username)
    with api.database.transaction() as conn:
        accounts.set_password(conn, actor.user_id, password_hash)
        sessions.end_all(conn, actor.user_id, but=actor.session_id)
        name = actor.username
        audit.append(conn, actor=name, action="user.password_changed", subject=f"user:{name}")


@router.put("/users/{username}/password")
def reset_password(username: str, body: PasswordIn, actor: CurrentActor, api: Parts) -> PasswordOut:
    """Give another user a new password. Ends that user's sessions. Administrators only."""
    require_admin(actor)
    require_credentials(actor)
    if username == actor.username:
        raise Forbidden("This is your own password.", remedy="Use `PUT /users/me/password`.")
    with api.database.reading() as conn:
        user = accounts.find_user(conn, username)
    password_hash, generated = _chosen_password(body.new_password, username)
    with api.database.transaction() as conn:
        accounts.set_password(conn, user.id, password_hash)
        sessions.end_all(conn, user.id)
        audit.append(conn, actor=actor.username, action="user.password_reset", subject=f"user:{username}")
    return PasswordOut(generated_password=generated)
