"""How each provider describes a person: its documented JSON → Profile (pure).

A reader gets the token endpoint's answer, the JSON of the provider's pages in the order of the catalogue, and the
issuer to record. Whether an address counts as verified follows each provider's documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from socle_auth.json_values import as_boolean, members, pick, pick_list, pick_text
from socle_auth.oauth.profile import Profile, ProviderEmail, full_name, make_profile

_Token = Mapping[str, object]
_Pages = Sequence[object]


def _only(address: str, *, verified: bool) -> tuple[ProviderEmail, ...]:
    return (ProviderEmail(address, verified),)


def bitbucket(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    user, emails = pages
    name, avatar = (
        pick_text(user, "display_name"),
        pick_text(user, "avatar", "href") or pick_text(user, "links", "avatar", "href"),
    )
    return make_profile(
        pick(user, "uuid"),
        [
            ProviderEmail(
                pick_text(entry, "email"),
                as_boolean(pick(entry, "is_confirmed")),
                as_boolean(pick(entry, "is_primary")),
            )
            for entry in pick_list(emails, "values")
        ],
        iss=issuer,
        name=name,
        full_name=name,
        picture=avatar,
        avatar_url=avatar,
    )


def discord(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    (user,) = pages
    subject, discriminator = pick_text(user, "id"), pick_text(user, "discriminator")
    avatar = _discord_avatar(subject, pick_text(user, "avatar"), discriminator)
    name = pick_text(user, "username")
    return make_profile(
        subject,
        _only(pick_text(user, "email"), verified=as_boolean(pick(user, "verified"))),
        {"global_name": pick_text(user, "global_name")},
        iss=issuer,
        name=f"{name}#{discriminator}",
        full_name=name,
        picture=avatar,
        avatar_url=avatar,
    )


def _discord_avatar(subject: str, image: str, discriminator: str) -> str:
    """The CDN address of an avatar; `a_` marks an animation, without an image the default of the account's number."""
    if image:
        return f"https://cdn.discordapp.com/avatars/{subject}/{image}.{'gif' if image.startswith('a_') else 'png'}"
    number = int(discriminator) % 5 if re.fullmatch(r"\d{1,9}", discriminator) else 0
    return f"https://cdn.discordapp.com/embed/avatars/{number}.png"


def facebook(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    (user,) = pages
    name = full_name(pick_text(user, "first_name"), pick_text(user, "last_name"))
    alias, picture = pick_text(user, "name"), pick_text(user, "picture", "data", "url")
    return make_profile(
        pick(user, "id"),
        _only(pick_text(user, "email"), verified=True),
        iss=issuer,
        name=name,
        full_name=name,
        nickname=alias,
        slug=alias,
        picture=picture,
        avatar_url=picture,
    )


def figma(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    (user,) = pages
    name = pick_text(user, "handle")
    return make_profile(
        pick(user, "id"),
        _only(pick_text(user, "email"), verified=True),
        iss=issuer,
        name=name,
        full_name=name,
        avatar_url=pick_text(user, "img_url"),
    )


def fly(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    (user,) = pages
    kept = ("resource_owner_id", "organizations", "application", "scope", "created_at")
    return make_profile(
        pick(user, "user_id"),
        _only(pick_text(user, "email"), verified=True),
        {name: pick(user, name) for name in kept},
        iss=issuer,
        full_name=pick_text(user, "user_name"),
    )


def github(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    user, emails = pages
    name, login = pick_text(user, "name"), pick_text(user, "login")
    return make_profile(
        pick(user, "id"),
        [
            ProviderEmail(
                pick_text(entry, "email"), as_boolean(pick(entry, "verified")), as_boolean(pick(entry, "primary"))
            )
            for entry in pick_list(emails)
        ],
        iss=issuer,
        name=name,
        full_name=name,
        preferred_username=login,
        user_name=login,
        avatar_url=pick_text(user, "avatar_url"),
    )


def gitlab(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    """Only the main address has a known state: the page of further addresses does not tell."""
    user, emails = pages
    name, avatar = pick_text(user, "name"), pick_text(user, "avatar_url")
    further = [ProviderEmail(pick_text(entry, "email"), primary=False) for entry in pick_list(emails)]
    main = ProviderEmail(pick_text(user, "email"), bool(pick_text(user, "confirmed_at")))
    return make_profile(
        pick(user, "id"),
        [*further, main],
        iss=issuer,
        name=name,
        full_name=name,
        picture=avatar,
        avatar_url=avatar,
    )


def google(_token: _Token, pages: _Pages, _issuer: str) -> Profile:
    """The user information page, for answers without an ID token."""
    (user,) = pages
    name, picture = pick_text(user, "name"), pick_text(user, "picture")
    verified = as_boolean(pick(user, "verified_email")) or as_boolean(pick(user, "email_verified"))
    return make_profile(
        pick(user, "id"),
        _only(pick_text(user, "email"), verified=verified),
        iss="https://www.googleapis.com/userinfo/v2/me",
        name=name,
        full_name=name,
        picture=picture,
        avatar_url=picture,
    )


def kakao(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    (user,) = pages
    account = pick(user, "kakao_account")
    name = pick_text(account, "profile", "nickname")
    verified = as_boolean(pick(account, "is_email_verified")) and as_boolean(pick(account, "is_email_valid"))
    return make_profile(
        pick(user, "id"),
        _only(pick_text(account, "email"), verified=verified),
        iss=issuer,
        name=name,
        full_name=name,
        preferred_username=name,
        user_name=name,
        avatar_url=pick_text(account, "profile", "profile_image_url"),
    )


def keycloak(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    (user,) = pages
    known = {"name", "sub", "email", "email_verified"}
    name = pick_text(user, "name")
    rest = {key: value for key, value in members(user).items() if key not in known}
    return make_profile(
        pick(user, "sub"),
        _only(pick_text(user, "email"), verified=as_boolean(pick(user, "email_verified"))),
        rest,
        iss=issuer,
        name=name,
        full_name=name,
    )


def linkedin(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    """LinkedIn tells the primary address only, which it has verified."""
    user, addresses = pages
    name = full_name(_linkedin_name(user, "firstName"), _linkedin_name(user, "lastName"))
    elements = ("profilePicture", "displayImage~", "elements", 0, "identifiers", 0, "identifier")
    avatar = pick_text(user, *elements)
    return make_profile(
        pick(user, "id"),
        _only(pick_text(addresses, "elements", 0, "handle~", "emailAddress"), verified=True),
        iss=issuer,
        name=name,
        full_name=name,
        picture=avatar,
        avatar_url=avatar,
    )


def _linkedin_name(user: object, which: str) -> str:
    locale = pick(user, which, "preferredLocale")
    return pick_text(user, which, "localized", f"{pick_text(locale, 'language')}_{pick_text(locale, 'country')}")


def notion(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    """Notion does not tell whether it verified the address; it signs people in by it."""
    owner = pick(pages[0], "bot", "owner", "user")
    name, avatar = pick_text(owner, "name"), pick_text(owner, "avatar_url")
    return make_profile(
        pick(owner, "id"),
        _only(pick_text(owner, "person", "email"), verified=True),
        iss=issuer,
        name=name,
        full_name=name,
        picture=avatar,
        avatar_url=avatar,
    )


def slack(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    return _slack(pages[0], issuer, verified=True)


def slack_oidc(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    return _slack(pages[0], issuer, verified=as_boolean(pick(pages[0], "email_verified")))


def _slack(user: object, issuer: str, *, verified: bool) -> Profile:
    name, picture = pick_text(user, "name"), pick_text(user, "picture")
    team = "https://slack.com/team_id"
    return make_profile(
        pick(user, "https://slack.com/user_id"),
        _only(pick_text(user, "email"), verified=verified),
        {team: pick_text(user, team)},
        iss=issuer,
        name=name,
        full_name=name,
        picture=picture,
        avatar_url=picture,
    )


def snapchat(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    person = pick(pages[0], "data", "me")
    name, avatar = pick_text(person, "displayName"), pick_text(person, "bitmoji", "avatar")
    return make_profile(
        pick(person, "externalId"),
        _only(pick_text(person, "email"), verified=True),
        iss=issuer,
        name=name,
        full_name=name,
        slug=name,
        picture=avatar,
        avatar_url=avatar,
    )


def spotify(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    """Spotify does not tell whether an address is verified: it counts as unverified. The largest image is taken."""
    (user,) = pages
    images = pick_list(user, "images")
    largest = max(images, key=lambda image: _number(image, "height") * _number(image, "width"), default=None)
    name, avatar = pick_text(user, "display_name"), pick_text(largest, "url")
    return make_profile(
        pick(user, "id"),
        _only(pick_text(user, "email"), verified=False),
        iss=issuer,
        name=name,
        full_name=name,
        picture=avatar,
        avatar_url=avatar,
    )


def _number(value: object, key: str) -> int:
    found = pick(value, key)
    return found if isinstance(found, int) else 0


def twitch(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    user = pick(pages[0], "data", 0)
    kept = ("broadcaster_type", "description", "type", "offline_image_url", "view_count")
    name, shown = pick_text(user, "login"), pick_text(user, "display_name")
    picture = pick_text(user, "profile_image_url")
    return make_profile(
        pick(user, "id"),
        _only(pick_text(user, "email"), verified=True),
        {key: pick(user, key) for key in kept},
        iss=issuer,
        name=name,
        full_name=name,
        nickname=shown,
        slug=shown,
        picture=picture,
        avatar_url=picture,
    )


def twitter(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    """Twitter gives the address only when it has been confirmed."""
    (user,) = pages
    name, login = pick_text(user, "name"), pick_text(user, "screen_name")
    picture = pick_text(user, "profile_image_url_https")
    return make_profile(
        pick(user, "id_str"),
        _only(pick_text(user, "email"), verified=True),
        iss=issuer,
        name=name,
        full_name=name,
        preferred_username=login,
        user_name=login,
        picture=picture,
        avatar_url=picture,
    )


def workos(token: _Token, _pages: _Pages, issuer: str) -> Profile:
    """WorkOS sends the person along with the token."""
    person = pick(token, "profile")
    name = full_name(pick_text(person, "first_name"), pick_text(person, "last_name"))
    return make_profile(
        pick(person, "id"),
        _only(pick_text(person, "email"), verified=True),
        {key: pick_text(person, key) for key in ("connection_id", "organization_id")},
        iss=issuer,
        name=name,
        full_name=name,
    )


def x(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    user = pick(pages[0], "data")
    name, login = pick_text(user, "name"), pick_text(user, "username")
    picture = pick_text(user, "profile_image_url")
    return make_profile(
        pick(user, "id"),
        _only(pick_text(user, "confirmed_email"), verified=True),
        {"created_at": pick_text(user, "created_at")},
        iss=issuer,
        name=name,
        full_name=name,
        preferred_username=login,
        user_name=login,
        picture=picture,
        avatar_url=picture,
        profile=f"https://x.com/{login}",
        website=pick_text(user, "url"),
    )


def zoom(_token: _Token, pages: _Pages, issuer: str) -> Profile:
    """An address is proven when the login is not by e-mail (login_type 100), or the account was confirmed."""
    (user,) = pages
    name = full_name(pick_text(user, "first_name"), pick_text(user, "last_name"))
    verified = pick_text(user, "login_type") != "100" or pick(user, "verified") not in (0, None)
    picture = pick_text(user, "pic_url")
    return make_profile(
        pick(user, "id"),
        _only(pick_text(user, "email"), verified=verified),
        iss=issuer,
        name=name,
        full_name=name,
        picture=picture,
        avatar_url=picture,
    )


def apple_name(profile: Profile, user: object) -> Profile:
    """Apple tells the name beside the code, the first time only (form field `user`, already decoded)."""
    name = full_name(pick_text(user, "name", "firstName"), pick_text(user, "name", "lastName"))
    if not name:
        return profile
    return Profile(profile.subject, profile.emails, {**profile.claims, "name": name, "full_name": name})
