"""Rate limits: token buckets by (bucket, key) (contracts/auth.md §7.3).

Each node decides by its own buckets at once; shared_limits.py keeps the nodes' buckets in step.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socle_auth.errors import AuthError, ErrorCode
from socle_auth.store.limits import Spending

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_platform.config.auth import RateLimitSettings

TOKEN = "token"
SIGNUPS = "signups"
OTP = "otp"
MAGIC_LINK = "magic_link"
RECOVER = "recover"
RESEND = "resend"
USER = "user"
VERIFY = "verify"
ANONYMOUS = "anonymous"
SSO = "sso"
SAML_ASSERTION = "saml_assertion"
FACTOR_CHALLENGE = "factor_challenge"
FACTOR_VERIFY = "factor_verify"
WEB3 = "web3"
PASSKEY = "passkey"
CLIENT_REGISTRATION = "client_registration"
EMAIL_SENT = "email_sent"
SMS_SENT = "sms_sent"
CODE_ATTEMPTS = "code_attempts"

WRONG_CODES = 10
"""How many wrong tries a code survives (§9, «OTP guessing»)."""

_MOST_KEYS = 100_000


@dataclass(frozen=True, slots=True)
class BucketRule:
    """`burst` tokens at most, one more every `interval` seconds."""

    burst: float
    interval: float


_CROWD_BUCKETS = frozenset({SIGNUPS, OTP, MAGIC_LINK, RECOVER, RESEND, USER, ANONYMOUS})
_CROWD = 10
_LOOPBACK = frozenset({"127.0.0.1", "::1"})


def rule_of(bucket: str, rates: RateLimitSettings, key: str = "") -> BucketRule:
    """The rule of a bucket under these settings: as many at once as in the whole period, then at the period's pace.

    A loopback address stands for a crowd (a proxy on this machine that names nobody, a run of tests), which gets ten
    times as much, except where something could be guessed: codes, passwords, factors.
    """
    rule = _rule_of(bucket, rates)
    if key in _LOOPBACK and bucket in _CROWD_BUCKETS:
        return BucketRule(rule.burst * _CROWD, rule.interval / _CROWD)
    return rule


def _rule_of(bucket: str, rates: RateLimitSettings) -> BucketRule:
    if bucket == ANONYMOUS:
        return _rule(rates.anonymous_users, 3600.0)
    if bucket in (FACTOR_CHALLENGE, FACTOR_VERIFY):
        return _rule(rates.mfa, 60.0)
    if bucket == CODE_ATTEMPTS:
        return BucketRule(WRONG_CODES, 86400.0)
    if bucket in (EMAIL_SENT, SMS_SENT):
        rate = rates.email_sent if bucket == EMAIL_SENT else rates.sms_sent
        interval = rate.seconds if rate.burst else rate.seconds / rate.events if rate.events else rate.seconds
        return BucketRule(rate.events, interval)
    per_five_minutes = {
        TOKEN: rates.token_refresh,
        VERIFY: rates.verify,
        SSO: rates.sso,
        SAML_ASSERTION: rates.saml_assertion,
        WEB3: rates.web3,
        PASSKEY: rates.passkey,
        CLIENT_REGISTRATION: rates.client_registration,
    }.get(bucket, rates.otp)
    return _rule(per_five_minutes, 300.0)


def _rule(events: float, seconds: float) -> BucketRule:
    return BucketRule(events, seconds / events if events > 0 else seconds)


class Limits:
    """The buckets of this process. `take` gives the seconds to wait, 0.0 when the token was there.

    What was taken is noted until `take_spendings` asks for it, to be settled with the other nodes; `taken` is set then.
    """

    def __init__(self, rates: RateLimitSettings, seconds: Callable[[], float]) -> None:
        self._rates = rates
        self._seconds = seconds
        self._levels: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        self._spent: dict[tuple[str, str], float] = {}
        self.taken = asyncio.Event()

    def take(self, bucket: str, key: str) -> float:
        rule = rule_of(bucket, self._rates, key)
        now = self._seconds()
        level, then = self._levels.pop((bucket, key), (rule.burst, now))
        level = min(rule.burst, level + max(0.0, now - then) / rule.interval)
        allowed = level >= 1.0
        self._levels[bucket, key] = (level - 1.0 if allowed else level, now)
        if allowed:
            self._spent[bucket, key] = self._spent.get((bucket, key), 0.0) + 1.0
            self.taken.set()
        if len(self._levels) > _MOST_KEYS:
            oldest, _ = self._levels.popitem(last=False)
            self._spent.pop(oldest, None)
        return 0.0 if allowed else (1.0 - level) * rule.interval

    def take_spendings(self, most: int) -> list[Spending]:
        """What was taken since the last time, of at most so many buckets."""
        now, found = self._seconds(), list[Spending]()
        for bucket, key in list(self._spent)[:most]:
            rule = rule_of(bucket, self._rates, key)
            found.append(Spending(bucket, key, rule.burst, rule.interval, self._spent.pop((bucket, key)), now))
        return found

    def give_back(self, spendings: Iterable[Spending]) -> None:
        """Notes again what could not be settled."""
        for item in spendings:
            place = (item.bucket, item.key)
            self._spent[place] = self._spent.get(place, 0.0) + item.spent

    def learn(self, spendings: Iterable[Spending], levels: Mapping[tuple[str, str], float]) -> None:
        """Takes over the shared levels, as of the spendings' moment, where they are lower than our own."""
        for item in spendings:
            place = (item.bucket, item.key)
            if place not in self._levels or place not in levels:
                continue
            level, then = self._levels[place]
            shared = levels[place] - self._spent.get(place, 0.0) + max(0.0, then - item.moment) / item.pause
            own = level + max(0.0, item.moment - then) / item.pause
            if shared < own:
                self._levels[place] = (shared, max(then, item.moment))


def caller_key(service: AuthService, call: Call) -> str:
    """Whom a limit counts: the configured header's first part, else the client's address."""
    name = service.settings.rates.header.lower()
    if name and (value := call.headers.get(name, "").partition(",")[0].strip()):
        return value
    return call.client_ip


async def charge(service: AuthService, bucket: str, key: str) -> None:
    """Takes one token. Raises 429 `over_request_rate_limit` with Retry-After."""
    wait = service.limits.take(bucket, key)
    if wait > 0.0:
        raise AuthError(
            ErrorCode.OVER_REQUEST_RATE_LIMIT,
            "Request rate limit reached",
            headers=(("retry-after", str(max(1, int(wait + 0.999)))),),
        )
