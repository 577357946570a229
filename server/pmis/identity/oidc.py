"""OpenID Connect, as one who relies on it: the code flow with PKCE, and nothing believed that was not checked.

A sign-in begins with a `Flow`: state, nonce and PKCE verifier, sealed into a short-lived cookie, so that only the
browser in which it began can end it, and nobody writes anything by beginning it. It ends with a code, which is given
to the provider for an ID token, whose signature and claims are judged by OpenID Connect Core 3.1.3.7.

Requests to a provider do not go through `kit.egress`: its address comes from the operator's settings and not from
people, and a provider may well stand inside the very network that egress keeps people from reaching.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote, urlencode, urlsplit

import httpx2
import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwt.exceptions import InvalidSubjectError
from pydantic import BaseModel, ConfigDict, ValidationError

from pmis.identity.providers import require_secure
from pmis.kit.errors import UnauthenticatedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pmis.identity.providers import Provider

ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""Signatures that only the provider can make: no `none`, and no HMAC, whose key the client would share."""
LIFETIME: Final = timedelta(minutes=10)
"""How long somebody may take at the provider."""
SKEW: Final = timedelta(minutes=1)
KEPT_SECONDS: Final = 3600.0
"""How long what a provider publishes of itself is used; keys that are not among those known are looked for at once."""
SECONDS: Final = 5.0
TOTAL_SECONDS: Final = 10.0
ANSWER_BYTES: Final = 256 * 1024
MAX_TEXT: Final = 4096
MAX_SUBJECT: Final = 255
MAX_GROUPS: Final = 1000
_NONCE_BYTES: Final = 12
_RETURN: Final = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")


class SignInRefusedError(UnauthenticatedError):
    """What came back from the provider does not sign anybody in; `because` says why in a word."""

    code = "sso_refused"
    title = "The sign-in at the provider does not count"

    def __init__(self, because: str, detail: str, **extra: Any) -> None:  # noqa: ANN401 - any JSON value may travel beside it
        """`because` is stable; programs and alarms go by it."""
        super().__init__(detail, because=because, **extra)
        self.because = because


class ProviderUnavailableError(UnavailableError):
    """The provider does not answer, or not as it must."""

    code = "provider_unavailable"
    title = "The identity provider does not answer"


def safe_return(target: str | None) -> str:
    r"""A path of this origin to go to after the sign-in; raises ValueError for anything else.

    Browsers read `//host` and `/\host` as other hosts, and drop tabs and line breaks before they look.
    """
    if target is None:
        return "/"
    parts = urlsplit(target)
    if not _RETURN.fullmatch(target) or len(target) > 2000 or parts.scheme or parts.netloc:  # noqa: PLR2004 - as long as an address can be
        raise ValueError("return_to must be a path of this site that begins with one slash, such as /packages")
    return target


class Flow(BaseModel):
    """A sign-in that has begun in some browser."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: str
    state: str
    nonce: str
    verifier: str
    return_to: str
    expires_at: datetime
    fresh: bool = False
    """Whether the provider was asked to let the person prove anew who they are."""
    link_person: str | None = None
    """Who, being signed in, wants this identity to be theirs."""

    @property
    def digest(self) -> bytes:
        """What is kept of a flow that has ended, so that it ends once."""
        return hashlib.sha256(self.state.encode()).digest()


class Flows:
    """Seals flows under a key of the instance."""

    def __init__(self, secret: str) -> None:
        """Derive the key from the instance's secret."""
        self._key = AESGCM(
            HKDF(algorithm=SHA256(), length=32, salt=None, info=b"pmis sign-in flow v1").derive(secret.encode())
        )

    def seal(self, flow: Flow) -> str:
        """What the browser keeps."""
        nonce = os.urandom(_NONCE_BYTES)
        return _b64(nonce + self._key.encrypt(nonce, flow.model_dump_json().encode(), flow.provider.encode()))

    def open(self, sealed: str, provider: str, state: str, now: datetime) -> Flow:
        """The flow with this state, begun with this provider; raises SignInRefusedError."""
        refused = SignInRefusedError(
            "unknown_state", "This sign-in was not begun in this browser, or too long ago. Begin again."
        )
        try:
            raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
            text = self._key.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], provider.encode())
            flow = Flow.model_validate_json(text)
        except (ValueError, InvalidTag, ValidationError):
            raise refused from None
        if not hmac.compare_digest(flow.state.encode(), state.encode()) or now >= flow.expires_at:
            raise refused
        return flow


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is at a provider, as far as it was checked."""

    issuer: str
    subject: str
    email: str | None
    email_verified: bool
    groups: frozenset[str]
    """None are the groups of somebody of whose groups the provider says nothing: less is safer than more."""
    authenticated_at: datetime | None
    """When the person last proved who they are, if the provider says so."""


class Metadata(BaseModel):
    """What a provider publishes of itself (OpenID Connect Discovery)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    id_token_signing_alg_values_supported: list[str] = ["RS256"]
    token_endpoint_auth_methods_supported: list[str] = ["client_secret_basic"]
    authorization_response_iss_parameter_supported: bool = False


class RelyingParty:
    """Signs people in through one provider."""

    def __init__(self, provider: Provider) -> None:
        """Nothing is asked yet."""
        self.provider = provider
        self._metadata: tuple[float, Metadata] | None = None
        self._keys: tuple[float, list[dict[str, Any]]] | None = None

    async def check(self) -> None:
        """Raise ProviderUnavailableError unless the provider publishes itself and its keys as it must."""
        await self._published(await self._discovered(), again=True)

    async def begin(self, flow: Flow, redirect_uri: str) -> str:
        """The address at the provider to send the browser to."""
        metadata = await self._discovered()
        challenge = _b64(hashlib.sha256(flow.verifier.encode()).digest())
        asked = {
            "response_type": "code",
            "client_id": self.provider.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.provider.scopes),
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **({"prompt": "login", "max_age": "0"} if flow.fresh else {}),
        }
        joined = "&" if urlsplit(metadata.authorization_endpoint).query else "?"
        return metadata.authorization_endpoint + joined + urlencode(asked, quote_via=quote)

    async def require_issuer(self, told: str | None) -> None:
        """Raise SignInRefusedError when the answer says it comes from another provider (RFC 9207)."""
        metadata = await self._discovered()
        required = metadata.authorization_response_iss_parameter_supported
        if (told is None and required) or (told is not None and told != self.provider.issuer):
            raise SignInRefusedError("mixed_up_issuer", "The answer comes from another provider. Begin again.")

    async def finish(self, flow: Flow, code: str, redirect_uri: str, now: datetime) -> Identity:
        """Who the code stands for; raises SignInRefusedError, or ProviderUnavailableError."""
        metadata = await self._discovered()
        answer = await self._exchange(metadata, flow, code, redirect_uri)
        token, access = answer.get("id_token"), answer.get("access_token")
        if not isinstance(token, str) or not isinstance(access, str):
            raise SignInRefusedError("no_id_token", "The provider gave no ID token. Its client must be one for OpenID.")
        claims = await self._claims(metadata, token, access, flow, now)
        subject = _subject(claims)
        wanted = {"email"} if self.provider.link_by_email else set[str]()
        wanted |= {self.provider.groups_claim} if self.provider.groups else set[str]()
        if metadata.userinfo_endpoint and not wanted <= claims.keys():
            more = await self._userinfo(metadata.userinfo_endpoint, access)
            if more.get("sub") != subject:
                raise SignInRefusedError("other_subject", "The provider speaks of two different people. Begin again.")
            claims = {**more, **claims}
        email = claims.get("email")
        return Identity(
            issuer=self.provider.issuer,
            subject=subject,
            email=email if isinstance(email, str) else None,
            # Only the JSON value: what some provider says in other words is not taken for it.
            email_verified=claims.get("email_verified") is True,
            groups=_groups(claims.get(self.provider.groups_claim)),
            authenticated_at=_authenticated_at(claims, flow, now),
        )

    async def _discovered(self) -> Metadata:
        known = self._metadata
        if known is not None and time.monotonic() - known[0] < KEPT_SECONDS:
            return known[1]
        url = self.provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
        answer = await self._ask("GET", url)
        try:
            metadata = Metadata.model_validate(answer)
            for address in (
                metadata.authorization_endpoint,
                metadata.token_endpoint,
                metadata.jwks_uri,
                *filter(None, [metadata.userinfo_endpoint]),
            ):
                require_secure(address)
        except ValueError:
            raise ProviderUnavailableError(f"What {self.provider.shown} publishes of itself is not complete.") from None
        if metadata.issuer != self.provider.issuer:
            raise ProviderUnavailableError(
                f"What {self.provider.shown} publishes of itself names another issuer than the settings."
            )
        self._metadata = time.monotonic(), metadata
        return metadata

    async def _exchange(self, metadata: Metadata, flow: Flow, code: str, redirect_uri: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": flow.verifier,
        }
        headers: dict[str, str] = {}
        secret, client = self.provider.client_secret, self.provider.client_id
        if secret is not None and "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            pair = f"{quote(client, safe='')}:{quote(secret.get_secret_value(), safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        elif secret is not None:
            form |= {"client_id": client, "client_secret": secret.get_secret_value()}
        else:
            form["client_id"] = client
        return await self._ask("POST", metadata.token_endpoint, form=form, headers=headers)

    async def _userinfo(self, url: str, access: str) -> dict[str, Any]:
        return await self._ask("GET", url, headers={"Authorization": f"Bearer {access}"})

    async def _claims(self, metadata: Metadata, token: str, access: str, flow: Flow, now: datetime) -> dict[str, Any]:
        """The claims of an ID token that was made for this client, now, in this very flow."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise SignInRefusedError("malformed", "The provider's ID token cannot be read.") from None
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS.intersection(metadata.id_token_signing_alg_values_supported):
            raise SignInRefusedError("algorithm", "The provider's ID token is not signed in a way that counts.")
        claims = await self._verified(metadata, token, header)
        if claims["iss"] != self.provider.issuer:
            raise SignInRefusedError("wrong_issuer", "The ID token was made by another provider.")
        if claims["aud"] not in (self.provider.client_id, [self.provider.client_id]):
            raise SignInRefusedError("wrong_audience", "The ID token was made for another application.")
        if claims.get("azp", self.provider.client_id) != self.provider.client_id:
            raise SignInRefusedError("wrong_party", "The ID token was made for another application.")
        if _time(claims["iat"]) > now + SKEW:
            raise SignInRefusedError("not_yet", "The ID token comes from the future. Look at the clocks of both sides.")
        if now >= _time(claims["exp"]) + SKEW:
            raise SignInRefusedError("expired", "The ID token has expired. Begin again.")
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), flow.nonce.encode()):
            raise SignInRefusedError("wrong_nonce", "The ID token belongs to another sign-in. Begin again.")
        if "at_hash" in claims and claims["at_hash"] != _half_hash(cast("str", algorithm), access):
            raise SignInRefusedError("wrong_at_hash", "The ID token and the access token do not belong together.")
        return claims

    async def _verified(self, metadata: Metadata, token: str, header: Mapping[str, Any]) -> dict[str, Any]:
        """The claims under a good signature. Keys that are not known are looked for once: the provider may rotate."""
        algorithm = cast("str", header["alg"])
        options: Any = {
            "require": ["iss", "sub", "aud", "exp", "iat"],
            # Judged afterwards, by the application's clock and with a word for each.
            **dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss"), False),
        }
        for again in (False, True):
            for key in _fitting(await self._published(metadata, again=again), header):
                try:
                    return jwt.decode(token, jwt.PyJWK(key, algorithm).key, algorithms=[algorithm], options=options)
                except (jwt.MissingRequiredClaimError, InvalidSubjectError):
                    raise SignInRefusedError("malformed", "The provider's ID token lacks what it must hold.") from None
                except (jwt.PyJWTError, ValueError, TypeError):
                    continue
        raise SignInRefusedError("unknown_key", "The ID token is not signed by a key that the provider publishes.")

    async def _published(self, metadata: Metadata, *, again: bool) -> list[dict[str, Any]]:
        known = self._keys
        if not again and known is not None and time.monotonic() - known[0] < KEPT_SECONDS:
            return known[1]
        answer = await self._ask("GET", metadata.jwks_uri)
        listed: object = answer.get("keys")
        if not isinstance(listed, list):
            raise ProviderUnavailableError(f"{self.provider.shown} publishes no keys.")
        keys = [cast("dict[str, Any]", key) for key in cast("list[object]", listed) if isinstance(key, dict)]
        self._keys = time.monotonic(), keys
        return keys

    async def _ask(
        self, method: str, url: str, *, form: dict[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The JSON object that the provider answers."""
        unavailable = ProviderUnavailableError(f"{self.provider.shown} cannot be reached, or answers nothing of use.")
        read = bytearray()
        try:
            async with (
                asyncio.timeout(TOTAL_SECONDS),
                httpx2.AsyncClient(timeout=SECONDS, follow_redirects=False) as client,
                client.stream(
                    method, url, data=form, headers={"Accept": "application/json", **(headers or {})}
                ) as response,
            ):
                async for chunk in response.aiter_bytes():
                    read += chunk
                    if len(read) > ANSWER_BYTES:
                        raise unavailable
        except (httpx2.HTTPError, OSError, TimeoutError):
            raise unavailable from None
        if form is not None and response.status_code in (400, 401):
            # RFC 6749 5.2: the code is not good, or this client is not whom it was given to.
            raise SignInRefusedError(
                "code_refused", "The provider refuses the code: it was used before, or is too old. Begin again."
            )
        try:
            answer: object = json.loads(bytes(read))
        except ValueError:
            raise unavailable from None
        if response.status_code != 200 or not isinstance(answer, dict):  # noqa: PLR2004
            raise unavailable
        return cast("dict[str, Any]", answer)


def new_flow(
    provider: str, *, return_to: str, now: datetime, fresh: bool = False, link_person: str | None = None
) -> Flow:
    """A sign-in that begins now: state, nonce and verifier of 256 random bits each."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    return Flow(
        provider=provider,
        state=state,
        nonce=nonce,
        verifier=verifier,
        return_to=return_to,
        expires_at=now + LIFETIME,
        fresh=fresh,
        link_person=link_person,
    )


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _half_hash(algorithm: str, text: str) -> str:
    """What `at_hash` must be: half of the hash that the signature's algorithm uses."""
    name = "sha512" if algorithm == "EdDSA" else f"sha{algorithm[-3:]}"
    digest = hashlib.new(name, text.encode()).digest()
    return _b64(digest[: len(digest) // 2])


def _fitting(keys: list[dict[str, Any]], header: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The published keys that may have made the signature: of that name when it names one, and for signing."""
    kid = header.get("kid")
    return [
        key
        for key in keys
        if key.get("kty") != "oct"
        and key.get("use", "sig") == "sig"
        and key.get("alg", header["alg"]) == header["alg"]
        and (kid is None or key.get("kid") == kid)
    ]


def _time(value: object) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SignInRefusedError("malformed", "The provider's ID token has a time that is none.")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise SignInRefusedError("malformed", "The provider's ID token has a time that is none.") from None


def _subject(claims: Mapping[str, Any]) -> str:
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT or "\x00" in subject:
        raise SignInRefusedError("malformed", "The provider's ID token does not say who signed in.")
    return subject


def _groups(value: object) -> frozenset[str]:
    if not isinstance(value, list):
        return frozenset()
    return frozenset(one for one in cast("list[object]", value)[:MAX_GROUPS] if isinstance(one, str))


def _authenticated_at(claims: Mapping[str, Any], flow: Flow, now: datetime) -> datetime | None:
    told = claims.get("auth_time")
    at = None if told is None else min(_time(told), now)
    if flow.fresh and (at is None or at < flow.expires_at - LIFETIME - SKEW):
        raise SignInRefusedError(
            "not_fresh", "The provider did not let you prove anew who you are, or does not say when you did."
        )
    return at
