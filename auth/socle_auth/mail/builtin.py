"""The built-in mails in English and French, as template sources of the same language that projects write theirs in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LANGUAGES = ("en", "fr")


@dataclass(frozen=True, slots=True)
class Wording:
    """One mail: subject, heading, paragraphs and, where it has a link, the words on the button."""

    subject: str
    heading: str
    paragraphs: tuple[str, ...]
    button: str = ""


def choose_language(locale: object) -> str:
    """The language of a user's `locale` (`fr`, `fr-CA`, `fr_FR`); English for every other."""
    language = locale.replace("_", "-").partition("-")[0].lower() if isinstance(locale, str) else ""
    return language if language in LANGUAGES else "en"


def subject_source(name: str, language: str) -> str:
    """The subject's template; `name` is one of the settings' template names."""
    return _WORDINGS[language][name].subject


def body_source(name: str, language: str) -> str:
    """The HTML template of a built-in mail."""
    wording = _WORDINGS[language][name]
    parts = [f'<h1 style="{_H1}">{wording.heading}</h1>']
    parts += [f'<p style="{_P}">{paragraph}</p>' for paragraph in wording.paragraphs]
    if wording.button:
        parts.append(f'<p style="{_P}"><a href="{{{{ .ConfirmationURL }}}}" style="{_BUTTON}">{wording.button}</a></p>')
    if wording.button or name == "reauthentication":
        parts.append(_CODE[language] if wording.button else f'<p style="{_TOKEN}">{{{{ .Token }}}}</p>')
    parts.append(f'<p style="{_SMALL}">{_CLOSING[language]["notice" if _is_notice(name) else "request"]}</p>')
    return _PAGE.format(language=language, body="\n".join(parts))


def sample_data(name: str) -> dict[str, Any]:
    """Plausible values for every variable that this mail's template may use: for checks and previews."""
    data: dict[str, Any] = {
        "SiteURL": "https://app.example.com",
        "Email": "ada@example.com",
        "Data": {"name": "Ada Lovelace", "locale": "en"},
        "RedirectTo": "https://app.example.com/welcome",
    }
    if _is_notice(name):
        extra = {
            "email_changed": {"OldEmail": "old@example.com"},
            "phone_changed": {"Phone": "15550101234", "OldPhone": "15550104321"},
            "identity_linked": {"Provider": "github"},
            "identity_unlinked": {"Provider": "github"},
            "mfa_factor_enrolled": {"FactorType": "totp"},
            "mfa_factor_unenrolled": {"FactorType": "totp"},
        }
        return data | extra.get(name.removesuffix("_notification"), {})
    data |= {"Token": "123456"}
    if name == "reauthentication":
        return data
    digest = "0f2d5c1a9e6b48d7a3c5e8f10b9d7c6a5e4f3b2a190807f6e5d4c3b2"
    link = f"https://api.example.com/auth/v1/verify?token={digest}&type=signup&redirect_to={data['RedirectTo']}"
    data |= {"TokenHash": digest, "ConfirmationURL": link}
    if name == "email_change":
        data |= {"NewEmail": "ada@new.example.com", "SendingTo": "ada@new.example.com"}
    return data


def _is_notice(name: str) -> bool:
    return name.endswith("_notification")


_H1 = "font-size:20px;margin:0 0 16px"
_P = "margin:0 0 16px"
_BUTTON = (
    "display:inline-block;padding:10px 20px;border-radius:6px;background:#1f6f4a;color:#ffffff;text-decoration:none"
)
_TOKEN = "margin:0 0 16px;font-size:24px;letter-spacing:4px;font-weight:bold"
_SMALL = "margin:24px 0 0;font-size:13px;color:#666666"
_PAGE = """<!doctype html>
<html lang="{language}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"></head>
<body style="margin:0;padding:24px;background:#f4f4f2">
<div style="max-width:480px;margin:0 auto;padding:32px;border-radius:8px;background:#ffffff;\
font:16px/1.5 system-ui,sans-serif;color:#222222">
{body}
</div>
</body>
</html>
"""
_CODE = {
    "en": f'<p style="{_P}">Or enter this code:</p><p style="{_TOKEN}">{{{{ .Token }}}}</p>',
    "fr": f'<p style="{_P}">Ou saisissez ce code :</p><p style="{_TOKEN}">{{{{ .Token }}}}</p>',
}
_CLOSING: Mapping[str, Mapping[str, str]] = {
    "en": {
        "request": "If you did not ask for this, you can ignore this message.",
        "notice": "If this was not you, change your password and get in touch with us at once.",
    },
    "fr": {
        "request": "Si vous n’êtes pas à l’origine de cette demande, ignorez ce message.",
        "notice": "Si ce n’était pas vous, changez votre mot de passe et contactez-nous sans attendre.",
    },
}
_WORDINGS: Mapping[str, Mapping[str, Wording]] = {
    "en": {
        "invite": Wording(
            "You've been invited",
            "You have been invited",
            ("You have been invited to create an account on {{ .SiteURL }}.",),
            "Accept the invitation",
        ),
        "confirmation": Wording(
            "Confirm your email address",
            "Confirm your email address",
            ("Welcome! One step is left: confirm that {{ .Email }} is yours.",),
            "Confirm my address",
        ),
        "recovery": Wording(
            "Reset your password",
            "Reset your password",
            ("Somebody, hopefully you, asked for a new password for {{ .Email }}.",),
            "Choose a new password",
        ),
        "magic_link": Wording(
            "Your sign-in link",
            "Sign in",
            ("Use this link to sign in as {{ .Email }}. It works once.",),
            "Sign in",
        ),
        "email_change": Wording(
            "Confirm your new email address",
            "Confirm the change of your address",
            ("You asked to change your address from {{ .Email }} to {{ .NewEmail }}.",),
            "Confirm the change",
        ),
        "reauthentication": Wording(
            "{{ .Token }} is your verification code",
            "Your verification code",
            ("Enter this code to confirm that it is you:",),
        ),
        "password_changed_notification": Wording(
            "Your password was changed",
            "Your password was changed",
            ("The password of your account {{ .Email }} has just been changed.",),
        ),
        "email_changed_notification": Wording(
            "Your email address was changed",
            "Your email address was changed",
            ("The address of your account was changed from {{ .OldEmail }} to {{ .Email }}.",),
        ),
        "phone_changed_notification": Wording(
            "Your phone number was changed",
            "Your phone number was changed",
            (
                "The phone number of your account {{ .Email }} was changed"
                "{{ if .OldPhone }} from {{ .OldPhone }}{{ end }} to {{ .Phone }}.",
            ),
        ),
        "identity_linked_notification": Wording(
            "A new way to sign in was added",
            "A new way to sign in was added",
            ("Your account {{ .Email }} can now be opened with {{ .Provider }}.",),
        ),
        "identity_unlinked_notification": Wording(
            "A way to sign in was removed",
            "A way to sign in was removed",
            ("Your account {{ .Email }} can no longer be opened with {{ .Provider }}.",),
        ),
        "mfa_factor_enrolled_notification": Wording(
            "A second factor was added",
            "A second factor was added",
            ("A second factor ({{ .FactorType }}) was added to your account {{ .Email }}.",),
        ),
        "mfa_factor_unenrolled_notification": Wording(
            "A second factor was removed",
            "A second factor was removed",
            ("A second factor ({{ .FactorType }}) was removed from your account {{ .Email }}.",),
        ),
    },
    "fr": {
        "invite": Wording(
            "Vous êtes invité·e",
            "Vous avez reçu une invitation",
            ("Vous êtes invité·e à créer un compte sur {{ .SiteURL }}.",),
            "Accepter l’invitation",
        ),
        "confirmation": Wording(
            "Confirmez votre adresse e-mail",
            "Confirmez votre adresse e-mail",
            ("Bienvenue ! Plus qu’une étape : confirmez que {{ .Email }} est bien la vôtre.",),
            "Confirmer mon adresse",
        ),
        "recovery": Wording(
            "Réinitialisez votre mot de passe",
            "Réinitialisez votre mot de passe",
            ("Un nouveau mot de passe a été demandé pour {{ .Email }}.",),
            "Choisir un nouveau mot de passe",
        ),
        "magic_link": Wording(
            "Votre lien de connexion",
            "Connexion",
            ("Ce lien vous connecte en tant que {{ .Email }}. Il ne sert qu’une fois.",),
            "Me connecter",
        ),
        "email_change": Wording(
            "Confirmez votre nouvelle adresse e-mail",
            "Confirmez le changement d’adresse",
            ("Vous avez demandé à remplacer l’adresse {{ .Email }} par {{ .NewEmail }}.",),
            "Confirmer le changement",
        ),
        "reauthentication": Wording(
            "{{ .Token }} est votre code de vérification",
            "Votre code de vérification",
            ("Saisissez ce code pour confirmer que c’est bien vous :",),
        ),
        "password_changed_notification": Wording(
            "Votre mot de passe a été modifié",
            "Votre mot de passe a été modifié",
            ("Le mot de passe de votre compte {{ .Email }} vient d’être modifié.",),
        ),
        "email_changed_notification": Wording(
            "Votre adresse e-mail a été modifiée",
            "Votre adresse e-mail a été modifiée",
            ("L’adresse de votre compte est passée de {{ .OldEmail }} à {{ .Email }}.",),
        ),
        "phone_changed_notification": Wording(
            "Votre numéro de téléphone a été modifié",
            "Votre numéro de téléphone a été modifié",
            (
                "Le numéro de votre compte {{ .Email }} a été modifié"
                "{{ if .OldPhone }} ({{ .OldPhone }} auparavant){{ end }} : {{ .Phone }}.",
            ),
        ),
        "identity_linked_notification": Wording(
            "Un moyen de connexion a été ajouté",
            "Un moyen de connexion a été ajouté",
            ("Votre compte {{ .Email }} peut désormais s’ouvrir avec {{ .Provider }}.",),
        ),
        "identity_unlinked_notification": Wording(
            "Un moyen de connexion a été retiré",
            "Un moyen de connexion a été retiré",
            ("Votre compte {{ .Email }} ne s’ouvre plus avec {{ .Provider }}.",),
        ),
        "mfa_factor_enrolled_notification": Wording(
            "Un second facteur a été ajouté",
            "Un second facteur a été ajouté",
            ("Un second facteur ({{ .FactorType }}) a été ajouté à votre compte {{ .Email }}.",),
        ),
        "mfa_factor_unenrolled_notification": Wording(
            "Un second facteur a été retiré",
            "Un second facteur a été retiré",
            ("Un second facteur ({{ .FactorType }}) a été retiré de votre compte {{ .Email }}.",),
        ),
    },
}
