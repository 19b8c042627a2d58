"""Sending a mail: who may get one, how many, and what it says (contracts/auth.md §7.6).

Without a mail server it stays in the built-in inbox, where that is on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from socle_auth import hooks, limits, links, redirects, wire
from socle_auth.errors import AuthError, ErrorCode, failure
from socle_auth.inbox import delivery
from socle_auth.mail import builtin
from socle_auth.mail.html_context import Trusted
from socle_platform.errors import SocleError
from socle_platform.ports import Mail

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.rows import User
    from socle_platform.db import Connection

_LABEL = re.compile(r"[+][^@]+@")


class MailKind(StrEnum):
    """Every mail there is; the values are those of the send-email hook's `email_action_type`."""

    SIGNUP = "signup"
    INVITE = "invite"
    RECOVERY = "recovery"
    MAGIC_LINK = "magiclink"
    EMAIL_CHANGE = "email_change"
    REAUTHENTICATION = "reauthentication"
    PASSWORD_CHANGED = "password_changed_notification"
    EMAIL_CHANGED = "email_changed_notification"
    PHONE_CHANGED = "phone_changed_notification"
    IDENTITY_LINKED = "identity_linked_notification"
    IDENTITY_UNLINKED = "identity_unlinked_notification"
    FACTOR_ENROLLED = "mfa_factor_enrolled_notification"
    FACTOR_UNENROLLED = "mfa_factor_unenrolled_notification"

    @property
    def template(self) -> str:
        """The name of its template in the settings."""
        return {"signup": "confirmation", "magiclink": "magic_link"}.get(self.value, self.value)

    @property
    def is_notification(self) -> bool:
        return self.value.endswith("_notification")


_NAMES = {
    MailKind.SIGNUP: "confirmation",
    MailKind.INVITE: "invite",
    MailKind.RECOVERY: "recovery",
    MailKind.MAGIC_LINK: "magic link",
    MailKind.EMAIL_CHANGE: "email change",
    MailKind.REAUTHENTICATION: "reauthentication",
}
_URL_TEMPLATES = {MailKind.MAGIC_LINK: "recovery"}


@dataclass(frozen=True, slots=True)
class Letter:
    """What a use case wants sent.

    `token`/`token_hash` are code and link hash for the user's address (`recipient` when given). A change of address has
    two pairs: `token`/`token_hash` for the present address (empty when only the new one confirms) and
    `token_new`/`token_hash_new` for the new one. The last fields serve notifications.
    """

    kind: MailKind
    user: User
    token: str = ""
    token_hash: str = ""
    token_new: str = ""
    token_hash_new: str = ""
    recipient: str = ""
    old_email: str = ""
    old_phone: str = ""
    provider: str = ""
    factor_type: str = ""


async def send(service: AuthService, connection: Connection, call: Call, letter: Letter) -> None:
    """Sends it inside the transaction under way: what cannot be sent is rolled back with everything around it.

    Raises AuthError: `email_address_not_authorized`, `over_email_send_rate_limit`, the hook's, or 500 when the mail
    server did not take it.
    """
    _check_authorized(service, letter)
    await _charge(service)
    if hooks.is_on(service, hooks.SEND_EMAIL):
        await hooks.call(service, connection, call, hooks.SEND_EMAIL, _hook_payload(service, call, letter))
        return
    try:
        for mail in await _compose(service, call, letter):
            if service.resources.mailer is not None:
                await service.resources.mailer.send(mail)
            else:
                await delivery.keep_mail(service, connection, mail)
    except SocleError as error:
        name = _NAMES.get(letter.kind, letter.kind.value.replace("_", " "))
        raise failure(f"Error sending {name} email", error) from error


async def notify(service: AuthService, connection: Connection, call: Call, letter: Letter) -> None:
    """Sends a notification if it is switched on; a failure is noted, never the caller's problem."""
    name = letter.kind.value.removesuffix("_notification")
    if name not in service.settings.mailer.notifications or not (letter.recipient or letter.user.email):
        return
    try:
        async with connection.transaction():
            await send(service, connection, call, letter)
    except SocleError as error:
        service.note("warning", f"notification {name} could not be sent: {error}")


def _check_authorized(service: AuthService, letter: Letter) -> None:
    addresses = [letter.recipient or letter.user.email]
    if letter.kind is MailKind.EMAIL_CHANGE:
        addresses = [letter.user.email_change, letter.user.email if letter.token_hash else ""]
    allowed = service.settings.external.email_authorized_addresses
    for address in filter(None, addresses):
        if allowed and _LABEL.sub("@", address).lower() not in {item.lower() for item in allowed}:
            raise AuthError(
                ErrorCode.EMAIL_ADDRESS_NOT_AUTHORIZED,
                f'Email address "{address}" cannot be used as it is not authorized',
            )


async def _charge(service: AuthService) -> None:
    rate = service.settings.rates.email_sent
    if rate.events > 0 and service.settings.mailer.autoconfirm:
        return
    try:
        await limits.charge(service, limits.EMAIL_SENT, "")
    except AuthError as error:
        raise AuthError(
            ErrorCode.OVER_EMAIL_SEND_RATE_LIMIT, "email rate limit exceeded", headers=error.headers
        ) from None


def _hook_payload(service: AuthService, call: Call, letter: Letter) -> dict[str, Any]:
    """§7.5: a change of address with two mails has the hashes swapped; kept as upstream sends them."""
    data: dict[str, Any] = {
        "token": letter.token,
        "token_hash": letter.token_hash,
        "redirect_to": redirects.choose_redirect(service, call),
        "email_action_type": letter.kind.value,
        "site_url": links.external_url(service, call),
        "token_new": "",
        "token_hash_new": "",
        "old_email": letter.old_email,
        "old_phone": letter.old_phone,
        "provider": letter.provider,
        "factor_type": letter.factor_type,
    }
    if letter.kind is MailKind.EMAIL_CHANGE:
        if letter.token_hash:
            data |= {
                "token_hash": letter.token_hash_new,
                "token_new": letter.token_new,
                "token_hash_new": letter.token_hash,
            }
        else:
            data |= {"token": letter.token_new, "token_hash": letter.token_hash_new}
    return {"user": wire.render_user(letter.user), "email_data": data}


async def _compose(service: AuthService, call: Call, letter: Letter) -> list[Mail]:
    if letter.kind is MailKind.EMAIL_CHANGE:
        new = letter.user.email_change
        mails = [await _mail(service, call, letter, new, letter.token_new, letter.token_hash_new)]
        if letter.token_hash:
            mails.append(await _mail(service, call, letter, letter.user.email, letter.token, letter.token_hash))
        return mails
    address = letter.recipient or letter.user.email
    return [await _mail(service, call, letter, address, letter.token, letter.token_hash)]


async def _mail(service: AuthService, call: Call, letter: Letter, to: str, token: str, token_hash: str) -> Mail:
    name = letter.kind.template
    user = letter.user
    language = builtin.choose_language(user.user_metadata.get("locale") or service.settings.mailer.language)
    data = _variables(service, call, letter)
    if not letter.kind.is_notification:
        data |= {"Token": token}
    if token_hash and letter.kind is not MailKind.REAUTHENTICATION:
        url = links.confirmation_url(
            service,
            call,
            template=_URL_TEMPLATES.get(letter.kind, name),
            kind=letter.kind.value,
            token_hash=token_hash,
            redirect_to=data["RedirectTo"],
        )
        data |= {"ConfirmationURL": Trusted(url), "TokenHash": token_hash}
    if letter.kind is MailKind.EMAIL_CHANGE:
        data |= {"NewEmail": user.email_change, "SendingTo": to}
    words = await service.mails.render(name, language, data)
    return Mail(to=to, subject=words.subject, html=words.html, text=words.text, kind=letter.kind.value)


def _variables(service: AuthService, call: Call, letter: Letter) -> dict[str, Any]:
    user = letter.user
    data: dict[str, Any] = {
        "SiteURL": Trusted(service.settings.site_url),
        "Email": user.email,
        "Data": user.user_metadata,
        "RedirectTo": Trusted(redirects.choose_redirect(service, call)),
    }
    if letter.kind.is_notification:
        data |= {
            "OldEmail": letter.old_email,
            "Phone": user.phone,
            "OldPhone": letter.old_phone,
            "Provider": letter.provider,
            "FactorType": letter.factor_type,
        }
    return data
