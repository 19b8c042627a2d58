"""POST /admin/generate_link: the link that a mail would carry, for whoever sends mails themselves (§3.13)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from socle_auth import audit, codes, emails, links, mail_codes, passwords, pkce, redirects, registration, wire
from socle_auth.contact_changes import DUPLICATE_EMAIL
from socle_auth.context import Access, AuthRoute
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.invite import ensure_invited_user, new_invited_user
from socle_auth.registration import EMAIL, AlreadyRegistered
from socle_auth.store import users
from socle_auth.store.users import NewUser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from socle_auth.context import AuthService, Call
    from socle_auth.pkce import Challenge
    from socle_auth.store.rows import User
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

_TYPES = ("signup", "invite", "magiclink", "recovery", "email_change_current", "email_change_new")
_LINK_TYPE = {"email_change_current": "email_change", "email_change_new": "email_change"}
_TEMPLATE = {"signup": "confirmation", "magiclink": "recovery"}
_FLOW_METHOD = {"signup": "email/signup"}


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """What is wanted; `kind` may become `signup` for a magic link to nobody."""

    kind: str
    email: str
    new_email: str
    password: str
    data: Mapping[str, Any] | None
    redirect_to: str
    audience: str
    challenge: Challenge | None


@dataclass(frozen=True, slots=True)
class Made:
    """The user with the token, the code, and the hash that the link names."""

    user: User
    code: str
    token_hash: str
    is_new: bool = False


async def generate_link(service: AuthService, call: Call) -> WireResponse:
    request = _parse(service, call)
    async with service.connect() as connection:
        user = await users.find_by_email(connection, request.email, request.audience)
    if user is None:
        request = await _for_nobody(service, request)
    new = await _new_user(service, request) if user is None else None
    if new is not None:
        await registration.ask_before(service, call, new)
    try:
        async with service.connect() as connection:
            made = await _make(service, connection, call, request, user, new)
    except AlreadyRegistered as error:
        raise AuthError(ErrorCode.EMAIL_EXISTS, DUPLICATE_EMAIL) from error
    if made.is_new:
        await registration.tell_after(service, call, made.user)
    kind = _LINK_TYPE.get(request.kind, request.kind)
    link = links.confirmation_url(
        service,
        call,
        template=_TEMPLATE.get(kind, kind),
        kind=kind,
        token_hash=made.token_hash,
        redirect_to=request.redirect_to,
    )
    return wire.reply(
        {
            **wire.render_user(made.user),
            "action_link": link,
            "email_otp": made.code,
            "hashed_token": made.token_hash,
            "verification_type": request.kind,
            "redirect_to": request.redirect_to,
        }
    )


def _parse(service: AuthService, call: Call) -> LinkRequest:
    body = call.body()
    email = emails.parse_email(body.text("email"))
    kind = body.text("type")
    if kind not in _TYPES:
        raise invalid(f"Invalid email action link type requested: {kind}")
    if kind == "email_change_current" and not service.settings.mailer.secure_email_change:
        raise invalid("Enable secure email change to generate link for current email")
    new_email = emails.parse_email(body.text("new_email")) if kind in _LINK_TYPE else ""
    redirect_to = body.text("redirect_to")
    if not service.redirects.allows(redirect_to):
        redirect_to = redirects.choose_redirect(service, call)
    return LinkRequest(
        kind=kind,
        email=email,
        new_email=new_email,
        password=body.text("password"),
        data=body.object_or_none("data"),
        redirect_to=redirect_to,
        audience=call.audience(service.settings),
        challenge=pkce.read_challenge(body),
    )


async def _for_nobody(service: AuthService, request: LinkRequest) -> LinkRequest:
    """What the request means when no user has the address. Raises `user_not_found`, or what the password lacks."""
    if request.kind == "magiclink":
        password = codes.new_password(service, 64, service.settings.password.required_characters)
        return replace(request, kind="signup", password=password)
    if request.kind == "signup":
        if not request.password:
            raise invalid("Signup requires a valid password")
        await passwords.check_strength(service, request.password)
        return request
    if request.kind == "invite":
        return request
    raise AuthError(ErrorCode.USER_NOT_FOUND, "User with this email not found")


async def _new_user(service: AuthService, request: LinkRequest) -> NewUser:
    new = new_invited_user(service, request.email, request.audience, request.data or {})
    if request.kind == "invite":
        return new
    return replace(new, encrypted_password=await passwords.hash_for(service, new.id, request.password))


async def _make(
    service: AuthService,
    connection: Connection,
    call: Call,
    request: LinkRequest,
    known: User | None,
    new: NewUser | None,
) -> Made:
    if request.kind == "invite":
        user = await ensure_invited_user(service, connection, call, known, new)
    elif known is None:
        assert new is not None
        user = await registration.insert_user(service, connection, new)
        claims = registration.contact_claims(user.id, email=user.email)
        identity = await registration.create_identity(service, connection, user, EMAIL, user.id, claims)
        user = replace(user, identities=(identity,))
    else:
        user = await _lock(connection, known)
    if request.challenge is not None:
        await pkce.begin_mail_flow(
            service,
            connection,
            user.id,
            request.challenge,
            method=_FLOW_METHOD.get(request.kind, _LINK_TYPE.get(request.kind, request.kind)),
            provider_type=EMAIL,
        )
    if request.kind in _LINK_TYPE:
        return await _make_change(service, connection, user, request)
    made = await _make_token(service, connection, call, user, request, is_new=known is None)
    return replace(made, is_new=known is None)


async def _lock(connection: Connection, known: User) -> User:
    user = await users.find(connection, known.id, lock=True)
    if user is None:
        raise AuthError(ErrorCode.USER_NOT_FOUND, "User with this email not found")
    return user


async def _make_token(
    service: AuthService, connection: Connection, call: Call, user: User, request: LinkRequest, *, is_new: bool
) -> Made:
    now = service.now()
    code, token_hash = mail_codes.new_mail_code(service, user.email, request.challenge)
    if request.kind in ("magiclink", "recovery"):
        await audit.record(service, connection, call, "user_recovery_requested", user)
        user = await users.update(connection, user, now, recovery_token=token_hash, recovery_sent_at=now)
        await mail_codes.remember(service, connection, user, "recovery_token", token_hash)
        return Made(user, code, token_hash)
    changes: dict[str, object] = {"confirmation_token": token_hash, "confirmation_sent_at": now}
    if request.kind == "invite":
        changes["invited_at"] = now
    elif not is_new:
        if user.is_email_confirmed:
            raise AuthError(ErrorCode.EMAIL_EXISTS, DUPLICATE_EMAIL)
        changes["raw_user_meta_data"] = registration.merged(user.user_metadata, request.data or {})
    user = await users.update(connection, user, now, **changes)
    await mail_codes.remember(service, connection, user, "confirmation_token", token_hash)
    return Made(user, code, token_hash)


async def _make_change(service: AuthService, connection: Connection, user: User, request: LinkRequest) -> Made:
    """One side of a change of address; the hash is the one that the link names (upstream gives another one for the new
    address)."""
    own_domains = tuple(service.settings.experimental.linking_domains)
    other = await users.find_registered(
        connection, request.new_email, user.aud, own_domains=own_domains, except_user=user.id
    )
    if other is not None and other.id != user.id:
        raise AuthError(ErrorCode.EMAIL_EXISTS, DUPLICATE_EMAIL)
    now = service.now()
    is_current = request.kind == "email_change_current"
    address = user.email if is_current else request.new_email
    column = "email_change_token_current" if is_current else "email_change_token_new"
    code, token_hash = mail_codes.new_mail_code(service, address, request.challenge)
    user = await users.update(
        connection,
        user,
        now,
        email_change=request.new_email,
        email_change_sent_at=now,
        email_change_confirm_status=0,
        **{column: token_hash},
    )
    await mail_codes.remember(service, connection, user, column, token_hash, address)
    return Made(user, code, token_hash)


ROUTES = (AuthRoute("POST", "/admin/generate_link", generate_link, Access.ADMIN),)
