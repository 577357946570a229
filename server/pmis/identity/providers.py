"""Which identity providers people may sign in through, as OIDC_PROVIDERS says."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from pmis.kit.settings import SettingsError
from pmis.policy.access import Role

if TYPE_CHECKING:
    from pmis.kit.settings import Settings

Text = Annotated[str, StringConstraints(min_length=1, max_length=255)]


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def require_secure(url: str) -> str:
    """The address; raises ValueError unless it is HTTPS, or plain HTTP to this very machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if "@" in parts.netloc or parts.fragment or not host:
        raise ValueError(f"{url!r} is not an address such as https://login.example.org")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_local(host)):
        raise ValueError(f"{url!r} must begin with https:// (http:// only for this very machine)")
    return url


def _plain(url: str) -> str:
    if urlsplit(url).query:
        raise ValueError("an issuer has no query")
    return url


class Grant(BaseModel):
    """What the members of one group at the provider are here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: Text | None = None
    roles: tuple[Role, ...] = ()
    instance_admin: bool = False
    instance_auditor: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> Grant:
        if bool(self.project) != bool(self.roles):
            raise ValueError("a project and the roles in it are named together")
        if not (self.roles or self.instance_admin or self.instance_auditor):
            raise ValueError("a group must give a role in a project, instance_admin or instance_auditor")
        return self


class Provider(BaseModel):
    """One identity provider, and how far it is believed."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
    title: Annotated[str, StringConstraints(min_length=1, max_length=80)] = ""
    issuer: Annotated[Text, AfterValidator(require_secure), AfterValidator(_plain)]
    client_id: Text
    client_secret: SecretStr | None = None
    client_secret_file: Path | None = None
    scopes: tuple[Text, ...] = ("openid", "profile", "email")
    link_by_email: bool = False
    groups_claim: Text = "groups"
    groups: dict[Text, tuple[Grant, ...]] = Field(default_factory=dict[Text, tuple[Grant, ...]])

    @model_validator(mode="after")
    def _fits_together(self) -> Provider:
        if self.client_secret is not None and self.client_secret_file is not None:
            raise ValueError("client_secret and client_secret_file are both given; keep one of them")
        if "openid" not in self.scopes:
            raise ValueError("scopes must hold openid")
        return self

    @property
    def shown(self) -> str:
        """What people call it."""
        return self.title or self.name


_LIST: Final = TypeAdapter(list[Provider])


def providers_of(settings: Settings) -> dict[str, Provider]:
    """The providers by name; raises SettingsError, which names what is wrong and quotes no secret."""
    if settings.oidc_providers is None:
        return {}
    try:
        listed = _LIST.validate_json(settings.oidc_providers.get_secret_value())
    except ValidationError as error:
        problems = [
            f"OIDC_PROVIDERS {'.'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError("; ".join(problems) + ".", problems=problems) from None
    found: dict[str, Provider] = {}
    for one in listed:
        same = [other for other in found.values() if one.name == other.name or one.issuer == other.issuer]
        if same:
            # Two of one issuer could not be told apart in an account's links.
            raise SettingsError(f"OIDC_PROVIDERS has {one.name!r} or its issuer twice.")
        if settings.environment == "production" and urlsplit(one.issuer).scheme != "https":
            raise SettingsError(f"OIDC_PROVIDERS: the issuer of {one.name!r} must begin with https:// in production.")
        found[one.name] = _with_secret(one)
    return found


def _with_secret(provider: Provider) -> Provider:
    path = provider.client_secret_file
    if path is None:
        return provider
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise SettingsError(
            f"OIDC_PROVIDERS: the client_secret_file of {provider.name!r}, {path}, cannot be read."
        ) from None
    if not secret:
        raise SettingsError(f"OIDC_PROVIDERS: the client_secret_file of {provider.name!r}, {path}, is empty.")
    return provider.model_copy(update={"client_secret": SecretStr(secret), "client_secret_file": None})
