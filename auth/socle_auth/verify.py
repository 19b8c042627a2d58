"""GET and POST /verify: a code or a link proves an address (contracts/auth.md §3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from socle_auth import audit, codes, emails, limits, passwords, redirects, registration, sessions, texting, wire
from socle_auth.confirm_page import confirm_page
from socle_auth.contact_changes import apply_email, apply_phone
from socle_auth.context import AuthRoute
from socle_auth.errors import AuthError, ErrorCode, failure, invalid
from socle_auth.pkce import TOKEN_PREFIX
from socle_auth.store import flows, one_time, users
from socle_platform.db import DatabaseError

if TYPE_CHECKING:
    from datetime import datetime

    from socle_auth.context import AuthService, Call
    from socle_auth.sessions import TokenResponse
    from socle_auth.store.rows import User
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

SINGLE_CONFIRMATION = "Confirmation link accepted. Please proceed to confirm link sent to the other email"
_BAD_CODE = "Token has expired or is invalid"
_BAD_LINK = "Email link is invalid or has expired"

_SIGNUP_TYPES = ("signup", "invite")
_RECOVERY_TYPES = ("recovery", "magiclink")
_PHONE_TYPES = ("sms", "phone_change")
_TOKENS_OF_TYPE: dict[str, tuple[str, ...]] = {
    "signup": ("confirmation_token",),
    "invite": ("confirmation_token",),
    "recovery": ("recovery_token",),
    "magiclink": ("recovery_token",),
    "email": ("confirmation_token", "recovery_token"),
    "email_change": ("email_change_token_current", "email_change_token_new"),
}
_SENT_AT = {
    "confirmation_token": "confirmation_sent_at",
    "recovery_token": "recovery_sent_at",
    "email_change_token_current": "email_change_sent_at",
    "email_change_token_new": "email_change_sent_at",
    "phone_change_token": "phone_change_sent_at",
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What was shown: a link's hash, or a code with the address it went to."""

    kind: str
    token_hash: str = field(repr=False)
    code: str = field(default="", repr=False)
    email: str = ""
    phone: str = ""

    @property
    def is_link(self) -> bool:
        return not self.code

    @property
    def is_pkce(self) -> bool:
        return self.is_link and self.token_hash.startswith(TOKEN_PREFIX)


@dataclass(frozen=True, slots=True)
class Proven:
    """How it ended: a session, a code for one (PKCE), or neither after the first half of a change of address.

    `kind` is the type as it turned out (`email` becomes `signup` or `magiclink`).
    """

    kind: str
    session: TokenResponse | None = None
    auth_code: str = ""


# -- requests ----------------------------------------------------------------------------------------------------------


async def verify_post(service: AuthService, call: Call) -> WireResponse:
    if form := call.form():
        return await _verify_link(service, call, form.get("type", ""), form.get("token", ""))
    proven = await _prove(service, call, parse_proof(call.body()), gives_code=False)
    if proven.session is None:
        return wire.reply({"msg": SINGLE_CONFIRMATION, "code": "200"})
    return sessions.reply(proven.session)


async def verify_get(service: AuthService, call: Call) -> WireResponse:
    """A link from a mail. With the scanner guard on it shows a page, whose button does what the link would have."""
    kind, token = call.query.get("type", ""), call.query.get("token", "")
    if service.settings.mailer.scanner_guard and kind and token:
        return confirm_page(call, kind, token, call.query.get("redirect_to", ""))
    return await _verify_link(service, call, kind, token)


async def _verify_link(service: AuthService, call: Call, kind: str, token: str) -> WireResponse:
    if not kind:
        raise invalid("Verify requires a verification type")
    if not token:
        raise invalid("Verify requires a token or a token hash")
    target = redirects.choose_redirect(service, call)
    proof = Proof(kind, token)
    try:
        proven = await _prove(service, call, proof, gives_code=True)
    except AuthError as error:
        return wire.redirect(_error_url(target, proof, error))
    if proven.session is not None:
        values = sessions.fragment_values(proven.session, type=proven.kind)
        answer = wire.redirect(f"{target}#{redirects.render_fragment(**values)}")
        return replace(answer, headers=(*answer.headers, *proven.session.headers))
    if proven.auth_code:
        return wire.redirect(redirects.with_query(target, code=proven.auth_code))
    if proof.is_pkce:
        target = redirects.with_query(target, message=SINGLE_CONFIRMATION)
    return wire.redirect(redirects.with_fragment(target, message=SINGLE_CONFIRMATION))


def _error_url(target: str, proof: Proof, error: AuthError) -> str:
    """In the fragment; for a PKCE link also in the query, over parameters of the same names (§4.3)."""
    values = redirects.error_parameters(error.status, error.shown_code, error.message)
    if proof.is_pkce:
        target = redirects.with_query(target, **values)
    return redirects.with_fragment(target, **values)


def parse_proof(body: wire.Body) -> Proof:
    """The body of POST /verify. Raises `validation_failed`."""
    kind, code, token_hash = body.text("type"), body.text("token"), body.text("token_hash")
    email, phone = body.text("email"), body.text("phone")
    if not kind:
        raise invalid("Verify requires a verification type")
    if bool(code) == bool(token_hash):
        raise invalid("Verify requires either a token or a token hash")
    if token_hash:
        if email or phone or body.text("redirect_to"):
            raise invalid("Only the token_hash and type should be provided")
        return Proof(kind, token_hash)
    if phone and not email:
        phone = codes.parse_phone(phone)
        return Proof(kind, codes.hash_code(phone, code), code, phone=phone)
    if email and not phone:
        email = emails.email_or(email, invalid("Invalid email format", 422))
        return Proof(kind, codes.hash_code(email, code), code, email=email)
    raise invalid("Only an email address or phone number should be provided on verify")


# -- the proof ---------------------------------------------------------------------------------------------------------


async def _prove(service: AuthService, call: Call, proof: Proof, *, gives_code: bool) -> Proven:
    """Finds whose code or link it is, uses it up, and lets them in."""
    allowed = (*_SIGNUP_TYPES, *_RECOVERY_TYPES, "email", "email_change")
    if proof.kind not in (allowed if proof.is_link else (*allowed, *_PHONE_TYPES)):
        raise invalid("Invalid email verification type" if proof.is_link else "Unsupported verification type")
    password_hash = await _password_of_invited(service, call, proof)
    async with service.connect() as connection:
        found = await (_find_by_link if proof.is_link else _find_by_code)(service, connection, call, proof)
        outcome = (
            found
            if isinstance(found, AuthError)
            else await _use(service, connection, call, proof, *found, password_hash, gives_code=gives_code)
        )
    if isinstance(outcome, AuthError):
        raise outcome  # after the commit: a code that was tried too often is dead
    return outcome


async def _password_of_invited(service: AuthService, call: Call, proof: Proof) -> str:
    """A hash for whoever accepts an invitation without having a password: made before the transaction, because it is
    slow. Every first mail may be such an invitation; other types never are."""
    if proof.kind not in (*_SIGNUP_TYPES, "email"):
        return ""
    async with service.connect() as connection:
        if proof.is_link:
            token = await one_time.find(connection, proof.token_hash, ("confirmation_token",))
            user = None if token is None else await users.find(connection, token.user_id)
        else:
            user = await users.find_by_email(connection, proof.email, call.audience(service.settings))
    if user is None or user.has_password or not user.has_been_invited:
        return ""
    return await passwords.hash_for(service, user.id, codes.new_password(service, 64))


def _expired(message: str) -> AuthError:
    return AuthError(ErrorCode.OTP_EXPIRED, message)


def _check_not_banned(service: AuthService, user: User) -> None:
    if user.is_banned(service.now()):
        raise AuthError(ErrorCode.USER_BANNED, "User is banned")


async def _find_by_link(
    service: AuthService, connection: Connection, _call: Call, proof: Proof
) -> tuple[User, str] | AuthError:
    """The user whose link it is, and which of their tokens."""
    token = await one_time.find(connection, proof.token_hash, _TOKENS_OF_TYPE[proof.kind])
    user = None if token is None else await users.find(connection, token.user_id, lock=True)
    token = await one_time.find(connection, proof.token_hash, _TOKENS_OF_TYPE[proof.kind])
    if token is None or user is None or token.user_id != user.id:
        raise _expired(_BAD_LINK)
    _check_not_banned(service, user)
    sent_at: datetime | None = getattr(user, _SENT_AT[token.token_type])
    if codes.is_expired(sent_at, service.now(), service.settings.mailer.otp_expiry):
        raise _expired(_BAD_LINK)
    return user, token.token_type


async def _find_by_code(
    service: AuthService, connection: Connection, call: Call, proof: Proof
) -> tuple[User, str] | AuthError:
    """The user whose code it is, and which of their tokens. A code dies after ten wrong tries."""
    candidates = await _candidates(service, connection, call, proof)
    if not candidates:
        raise _expired(_BAD_CODE)
    for candidate in candidates:
        user = await users.find(connection, candidate.id, lock=True)
        if user is None:
            continue
        _check_not_banned(service, user)
        if (column := await _matching_token(service, user, proof)) is not None:
            return user, column
        await _count_wrong_code(service, connection, user)
    return _expired(_BAD_CODE)


async def _candidates(service: AuthService, connection: Connection, call: Call, proof: Proof) -> Sequence[User]:
    audience = call.audience(service.settings)
    if proof.kind == "email_change":
        return await users.find_by_email_change(connection, proof.email, audience)
    if proof.kind == "phone_change":
        user = await users.find_by_phone_change(connection, proof.phone, audience)
    elif proof.phone:
        user = await users.find_by_phone(connection, proof.phone, audience) if proof.kind == "sms" else None
    else:
        user = await users.find_by_email(connection, proof.email, audience) if proof.kind != "sms" else None
    return [] if user is None else [user]


async def _matching_token(service: AuthService, user: User, proof: Proof) -> str | None:
    """Which of the user's codes this is, unexpired; None for none of them."""
    if proof.kind in _PHONE_TYPES:
        return await _matching_phone_token(service, user, proof)
    for column in _TOKENS_OF_TYPE[proof.kind]:
        sent_at: datetime | None = getattr(user, _SENT_AT[column])
        is_fresh = not codes.is_expired(sent_at, service.now(), service.settings.mailer.otp_expiry)
        if is_fresh and codes.matches(proof.token_hash, getattr(user, column)):
            return column
    return None


async def _matching_phone_token(service: AuthService, user: User, proof: Proof) -> str | None:
    column = "phone_change_token" if proof.kind == "phone_change" else "confirmation_token"
    if service.settings.sms.test_code(proof.phone, service.now()) == proof.code:
        return column
    accepted = await texting.verify_remotely(service, proof.phone, proof.code)
    if accepted is None:
        sent_at: datetime | None = getattr(user, _SENT_AT[column])
        is_fresh = not codes.is_expired(sent_at, service.now(), service.settings.sms.otp_expiry)
        accepted = is_fresh and codes.matches(proof.token_hash, getattr(user, column))
    return column if accepted else None


async def _count_wrong_code(service: AuthService, connection: Connection, user: User) -> None:
    pending = "".join(str(getattr(user, column)) for column in users.NO_PENDING_TOKENS)
    if not pending:
        return
    try:
        await limits.charge(service, limits.CODE_ATTEMPTS, f"{user.id}:{codes.hash_code('', pending)}")
    except AuthError:
        service.note("warning", f"the codes of user {user.id} were tried too often and are void")
        await users.forget_tokens(connection, user, service.now())


# -- what it does ------------------------------------------------------------------------------------------------------


async def _use(
    service: AuthService,
    connection: Connection,
    call: Call,
    proof: Proof,
    user: User,
    column: str,
    password_hash: str,
    *,
    gives_code: bool,
) -> Proven:
    kind = proof.kind
    if kind == "email":
        kind = "signup" if column == "confirmation_token" else "magiclink"
    if kind in _SIGNUP_TYPES:
        user = await _confirm_signup(service, connection, call, user, password_hash)
    elif kind in _RECOVERY_TYPES:
        user = await _recover(service, connection, call, user)
    elif kind == "email_change":
        if _is_first_half(service, user):
            await _confirm_first_half(service, connection, user, column)
            return Proven(kind)
        user = await apply_email(service, connection, call, user, user.email_change)
    elif kind == "phone_change":
        user = await apply_phone(service, connection, call, user, user.phone_change or proof.phone)
    else:
        user = await _confirm_sms(service, connection, call, user)
    await registration.refresh_providers(service, connection, user)
    user = await users.reload(connection, user)  # what triggers and generated columns made of it goes into the token
    if gives_code and proof.is_pkce:
        return Proven(kind, auth_code=await _issue_code(service, connection, user, kind))
    return Proven(kind, await sessions.issue_session(service, connection, call, user, "otp"))


async def _confirm_signup(
    service: AuthService, connection: Connection, call: Call, user: User, password_hash: str
) -> User:
    """The first mail reached its user. An invited one without a password gets a secret one and is signed out elsewhere:
    the application is expected to ask for a new one."""
    from socle_auth.store import identities
    from socle_auth.store import sessions as session_store

    try:
        await audit.record(service, connection, call, "user_signedup", user, {"provider": "email"})
        changes: dict[str, object] = {}
        if password_hash and not user.has_password:
            changes["encrypted_password"] = password_hash
            await session_store.delete_all(connection, user.id)
        user = await registration.confirm_email(service, connection, user, **changes)
        if user.email:
            await identities.mark_email_verified(connection, user.id, user.email, service.now())
    except DatabaseError as error:
        raise failure("Error confirming user", error) from error
    return user


async def _recover(service: AuthService, connection: Connection, call: Call, user: User) -> User:
    """A recovery or magic link; whoever reads the mail owns the address, so it also confirms an unconfirmed user."""
    try:
        if user.is_email_confirmed:
            await audit.record(service, connection, call, "login", user)
            return await users.forget_tokens(connection, user, service.now())
        await audit.record(service, connection, call, "user_signedup", user, {"provider": "email"})
        return await registration.confirm_email(service, connection, user)
    except DatabaseError as error:
        raise failure("Database error updating user", error) from error


async def _confirm_sms(service: AuthService, connection: Connection, call: Call, user: User) -> User:
    try:
        await audit.record(service, connection, call, "user_signedup", user, {"provider": "phone"})
        return await registration.confirm_phone(service, connection, user, is_anonymous=False)
    except DatabaseError as error:
        raise failure("Error confirming user", error) from error


def _is_first_half(service: AuthService, user: User) -> bool:
    mailer = service.settings.mailer
    return (
        mailer.secure_email_change
        and not mailer.autoconfirm
        and bool(user.email)
        and user.email_change_confirm_status == 0
    )


async def _confirm_first_half(service: AuthService, connection: Connection, user: User, column: str) -> None:
    """One of the two addresses agrees; its token is used up, the other one is waited for."""
    await users.update(connection, user, service.now(), email_change_confirm_status=1, **{column: ""})
    await one_time.delete_type(connection, user.id, column)


async def _issue_code(service: AuthService, connection: Connection, user: User, kind: str) -> str:
    """The code of the user's latest flow of that kind (§4.1)."""
    method = "email/signup" if kind.endswith("signup") else kind
    flow = await flows.latest_of_user(connection, user.id, method)
    if flow is None or not flow.code_challenge or not flow.auth_code:
        raise AuthError(
            ErrorCode.FLOW_STATE_NOT_FOUND,
            "No associated flow state found. 422: No valid flow state found for user.",
            400,
        )
    await flows.mark_code_issued(connection, flow.id, service.now())
    return flow.auth_code


ROUTES = (
    AuthRoute("GET", "/verify", verify_get, limiter=limits.VERIFY),
    AuthRoute("POST", "/verify", verify_post, limiter=limits.VERIFY),
)
