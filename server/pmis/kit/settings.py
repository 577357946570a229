"""Settings: environment variables, each with a description; the reference page is made from this class.

Where a value comes from, first hit wins: an argument (tests), the variable `NAME`, for secrets the file named by
`NAME_FILE`, what `pmis up` keeps in the data folder (`runtime.json` while it runs, `secrets.json` for good), the
default.
An empty variable counts as absent.
"""

from __future__ import annotations

import json
import os
import tempfile
from decimal import Decimal
from functools import lru_cache
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, cast
from urllib.parse import unquote, urlsplit

from pydantic import AwareDatetime, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from pmis.kit.errors import PmisError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

MIN_SECRET_BYTES: Final = 32
_PLACEHOLDERS: Final = (
    "changeme",
    "change-me",
    "change_me",
    "replace-me",
    "replaceme",
    "default",
    "example",
    "insecure",
    "secret",
    "password",
)
_MIN_DISTINCT: Final = 8
_DEFAULT_PASSWORDS: Final = frozenset(
    {"postgres", "password", "pmis", "admin", "root", "test", "changeme", "secret", "redis", "valkey"}
)
_OTHER_LOGINS: Final = frozenset(
    {
        "DATABASE_OWNER_URL",
        "DATABASE_SEALER_URL",
        "DATABASE_AUDITOR_URL",
        "DATABASE_WORKER_URL",
        "DATABASE_RELAY_URL",
    }
)


class SettingsError(PmisError):
    """The environment does not describe a system that can run; the text names each variable."""

    code = "invalid_settings"
    title = "The settings are not valid"


def checkout() -> Path | None:
    """The folder of the source checkout this runs from, or None for an installed distribution."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "server" / "pyproject.toml").is_file() else None


def default_data_dir() -> Path:
    """`.data` in the checkout; where that cannot be written (or there is no checkout), a folder of the user's own."""
    root = checkout()
    if root is not None:
        folder = root / ".data"
        if os.access(folder if folder.exists() else root, os.W_OK | os.X_OK):
            return folder
    if base := os.environ.get("XDG_DATA_HOME"):
        return Path(base) / "pmis"
    try:
        return Path.home() / ".local" / "share" / "pmis"
    except RuntimeError:  # a container's user without a passwd entry
        return Path(tempfile.gettempdir()) / f"pmis-{os.getuid()}"


class _SecretFiles(PydanticBaseSettingsSource):
    """`NAME_FILE` for every secret: the file's text without the line break at its end."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        name = field_name.upper()
        path = os.environ.get(f"{name}_FILE")
        if not path or not _is_secret(field):
            return None, field_name, False
        if os.environ.get(name):
            raise SettingsError(f"{name} and {name}_FILE are both set; keep one of them.")
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n"), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SettingsError(f"{name}_FILE names {path}, which cannot be read: {reason}.") from None

    def __call__(self) -> dict[str, Any]:
        return _values(self, self.settings_cls.model_fields)


class _DataFolder(PydanticBaseSettingsSource):
    """What `pmis up` keeps in the data folder: secrets made once, and the addresses of the servers that run now."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the base class asks for it
        return self._known().get(field_name.upper()), field_name, False

    def _known(self) -> Mapping[str, Any]:
        state = self.current_state
        folder = Path(state.get("pmis_data_dir") or default_data_dir())
        return {**_read_json(folder / "secrets.json"), **_read_json(folder / "runtime.json")}

    def __call__(self) -> dict[str, Any]:
        known = self._known()
        given = self.current_state
        # A database of one's own is used as it is told: nothing of the embedded one is mixed into it.
        skip = _OTHER_LOGINS if given.get("database_url") else frozenset[str]()
        return {
            name: known[name.upper()]
            for name in self.settings_cls.model_fields
            if name.upper() in known and name.upper() not in skip
        }


def _values(source: PydanticBaseSettingsSource, fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    found = {name: source.get_field_value(field, name)[0] for name, field in fields.items()}
    return {name: value for name, value in found.items() if value is not None}


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file of the data folder; nothing when it is not there or belongs to another user."""
    try:
        value: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _is_secret(field: FieldInfo) -> bool:
    return "SecretStr" in str(field.annotation)


class Settings(BaseSettings):
    """Everything that can be set from outside."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    environment: Literal["development", "test", "production"] = Field(
        "development",
        description=(
            "What this install is for. `production` refuses to start on missing, short or placeholder secrets "
            "and on PMIS_NOW."
        ),
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="How much the processes log.")
    log_format: Literal["json", "text"] = Field(
        "json", description="How log lines look: one JSON object each, for programs, or text for people."
    )
    sentry_dsn: SecretStr | None = Field(
        None,
        description=(
            "Where faults are reported (Sentry, or anything that speaks its protocol): type, trace and correlation id, "
            "without values of variables, headers, bodies or addresses. Nothing is sent when it is not set."
        ),
    )
    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        pattern="^https?://[^\\s]+$",
        description=(
            "Where spans of requests and jobs are sent (OpenTelemetry's OTLP over HTTP), such as "
            "`http://collector:4318`; `/v1/traces` is added. Nothing is sent when it is not set."
        ),
    )
    otel_exporter_otlp_headers: SecretStr | None = Field(
        None, description="Headers for that receiver, as `name=value,name=value`."
    )
    otel_traces_sampler_arg: float = Field(
        1.0, ge=0, le=1, description="The share of traces that is sent; a caller's `traceparent` decides for its own."
    )
    metrics_token: SecretStr | None = Field(
        None,
        description=(
            "What `GET /metrics` asks for as `Authorization: Bearer`. Without it anyone who reaches the port may read "
            "them: keep the path from the outside world."
        ),
    )
    pmis_data_dir: Path = Field(
        default_factory=default_data_dir,
        description=(
            "The data folder of `pmis up`: embedded servers, generated secrets, logs, checkpoints. "
            "Default: `.data` in the checkout, or a folder of the user's own where that cannot be written."
        ),
    )
    pmis_url: str | None = Field(
        None,
        description=(
            "Where the command line finds the API. Default: what `pmis up` serves from the data folder, "
            "else http://API_HOST:API_PORT."
        ),
    )
    pmis_postgres_bin: Path | None = Field(
        None,
        description="The folder of PostgreSQL's programs (16 or newer) that `pmis up` shall use instead of its own.",
    )
    pmis_run_as: str = Field(
        "nobody", description="The unprivileged user that embedded servers run as when `pmis up` is started by root."
    )
    pmis_now: AwareDatetime | None = Field(
        None,
        description=(
            "A fixed time (ISO 8601 with a time zone) instead of the clock, for evaluations. Refused in production."
        ),
    )

    database_url: SecretStr | None = Field(
        None,
        description=(
            "PostgreSQL as the application's login, `postgresql://user:password@host:5432/name`. "
            "When it is set nothing is embedded; without it the commands use the PostgreSQL that `pmis up` runs."
        ),
    )
    database_owner_url: SecretStr | None = Field(
        None, description="The login that owns the tables; only `pmis migrate` uses it. Default: DATABASE_URL."
    )
    database_sealer_url: SecretStr | None = Field(
        None,
        description=(
            "The login that seals the log (role pmis_sealer). Default: DATABASE_OWNER_URL, then DATABASE_URL."
        ),
    )
    database_auditor_url: SecretStr | None = Field(
        None,
        description=(
            "The login that only reads, for exports and replay checks (role pmis_auditor). Default: DATABASE_URL."
        ),
    )
    database_worker_url: SecretStr | None = Field(
        None,
        description=(
            "The login that does the jobs (role pmis_worker). Default: DATABASE_OWNER_URL, then DATABASE_URL."
        ),
    )
    database_relay_url: SecretStr | None = Field(
        None,
        description=(
            "The login that hands jobs to the workers and keeps the schedule (role pmis_relay). "
            "Default: DATABASE_OWNER_URL, then DATABASE_URL."
        ),
    )
    db_pool_size: int = Field(10, ge=1, le=200, description="Connections each API process may hold.")
    db_wait_ms: int = Field(
        5000,
        ge=1,
        le=60_000,
        description="How long a request waits for one of them before it answers 503.",
    )
    lock_timeout_ms: int = Field(
        3000, ge=1, le=60_000, description="How long a write waits for a row lock before it answers 409."
    )
    redis_url: SecretStr | None = Field(
        None,
        description="Valkey 8 or Redis 7, broker and cache: `redis://:password@host:6379/0` or `unix:///path?db=0`.",
    )

    celery_broker: SecretStr | None = Field(
        None,
        description=(
            "The broker that wakes the workers, in the same forms. Default: REDIS_URL. "
            "Losing it loses nothing: what was accepted stands in PostgreSQL."
        ),
    )
    worker_concurrency: int = Field(2, ge=1, le=64, description="How many jobs each `pmis worker` does at a time.")
    job_retry_seconds: Annotated[tuple[float, ...], NoDecode] = Field(
        (60, 120, 240),
        description=(
            "How long a job that failed waits before each further attempt, comma-separated; each wait is made up to a "
            "fifth longer at random. A job has one attempt more than there are waits; then it is a dead letter. "
            "While the database or the storage is away it is tried sooner and for some minutes."
        ),
    )
    job_lease_seconds: int = Field(
        15,
        ge=2,
        le=600,
        description="After how long without a sign of life a worker counts as lost, and its job is due again.",
    )
    job_limit_seconds: int = Field(
        300, ge=1, le=3600, description="How long one attempt at a job may take before it is ended."
    )
    job_republish_seconds: int = Field(
        8, ge=1, le=600, description="After how long the broker is told again of a job that no worker has claimed."
    )
    job_keep_days: int = Field(
        30, ge=1, le=3650, description="How long jobs that are done are kept; dead letters are kept until dealt with."
    )

    secret_key: SecretStr | None = Field(
        None, description="Key for everything encrypted or signed at rest; at least 32 bytes. `pmis up` generates one."
    )
    jwt_secret_key: SecretStr | None = Field(
        None,
        description=(
            "Key that signs access tokens; at least 32 bytes, not the same as SECRET_KEY. `pmis up` generates one."
        ),
    )
    access_token_minutes: int = Field(10, ge=1, le=1440, description="How long an access token is good for.")
    jwt_previous_secret_keys: SecretStr | None = Field(
        None,
        description=(
            "Former values of JWT_SECRET_KEY, separated by commas: access tokens that they signed are good until they "
            "expire. Remove them after ACCESS_TOKEN_MINUTES."
        ),
    )
    refresh_token_days: int = Field(
        14, ge=1, le=365, description="How long a sign-in lasts that nobody uses: the time a refresh token is good for."
    )
    session_days: int = Field(
        30, ge=1, le=365, description="How long a sign-in lasts at most, however often it is refreshed."
    )
    step_up_minutes: int = Field(
        15,
        ge=1,
        le=1440,
        description=(
            "For how long a password (with the code, for those with a second factor) counts for what needs a fresh "
            "proof of who one is: decisions on routes to which the policy gives `step_up` (executive ones by "
            "default), making API tokens, changing second factors."
        ),
    )
    api_token_days: int = Field(
        365, ge=1, le=3650, description="How long an API token is good for at most; its owner says how long."
    )
    invitation_days: int = Field(
        7,
        ge=1,
        le=90,
        description="How long the link of an invitation is good for at most; whoever invites may give it less.",
    )
    assistant_seconds: int = Field(
        60, ge=1, le=600, description="How long the assistant may take to answer one message."
    )
    assistant_max_steps: int = Field(
        60,
        ge=20,
        le=1000,
        description="How many steps of its graph the assistant may take for one message; each proposal is one.",
    )
    assistant_proposals_per_hour: int = Field(
        100, ge=0, le=10_000, description="How many changes the assistant may propose in an hour for one person."
    )
    assistant_provider: Literal["none", "openai", "azure", "anthropic"] = Field(
        "none",
        description=(
            "Whose model plans what the assistant does. Without one (`none`) a grammar does, and nothing leaves the "
            "install; it also takes over whenever a model fails."
        ),
    )
    assistant_model: str | None = Field(
        None, description="The model's name; for Azure OpenAI the name of the deployment.", examples=["gpt-5-mini"]
    )
    assistant_model_seconds: float = Field(
        20, gt=0, le=300, description="How long a model may take over one message, all its calls together."
    )
    assistant_model_calls: int = Field(6, ge=1, le=50, description="How often a model is called for one message.")
    assistant_model_tokens: int = Field(
        50_000, ge=1, description="How many tokens, read and written, a model may take for one message."
    )
    assistant_texts: Literal["model", "rules"] = Field(
        "model",
        description=(
            "Who takes values out of mails, comments and descriptions for a model that plans: the model, to whose "
            "provider such a text then goes, or `rules`, and none leaves the install."
        ),
    )
    assistant_price_read: Decimal | None = Field(
        None,
        ge=0,
        description="What a million tokens that the model reads cost; with it, what was spent is shown by day.",
        examples=["1.25"],
    )
    assistant_price_written: Decimal | None = Field(
        None, ge=0, description="What a million tokens that the model writes cost.", examples=["10.00"]
    )
    assistant_price_currency: str = Field(
        "USD", pattern="^[A-Z]{3}$", description="The currency of both prices (ISO 4217)."
    )
    openai_api_key: SecretStr | None = Field(None, description="The key for OpenAI's API.")
    openai_base_url: str | None = Field(None, description="Another address that speaks OpenAI's API.")
    azure_openai_api_key: SecretStr | None = Field(None, description="The key for Azure OpenAI.")
    azure_openai_endpoint: str | None = Field(
        None, description="Where Azure OpenAI is.", examples=["https://example.openai.azure.com"]
    )
    azure_openai_api_version: str = Field("2024-10-21", description="The version of Azure OpenAI's API.")
    anthropic_api_key: SecretStr | None = Field(None, description="The key for Anthropic's API.")
    anthropic_base_url: str | None = Field(None, description="Another address that speaks Anthropic's API.")
    conversation_keep_days: int = Field(
        365,
        ge=1,
        le=36_500,
        description="For how long conversations with the assistant are kept that nobody goes on with.",
    )
    embedder: Literal["hashing", "provider", "local"] = Field(
        "hashing",
        description=(
            "What makes the vectors by which memories are found: `hashing` compares words and their letters and needs "
            "nothing; `provider` asks EMBEDDING_PROVIDER, which is told every memory; `local` is a small model on this "
            "machine (install `pmis[local-embeddings]`). After a change the vectors are made anew by and by, or at "
            "once by `pmis memory reindex`."
        ),
    )
    embedding_provider: Literal["openai", "azure"] = Field(
        "openai", description="Who is asked for vectors when EMBEDDER is `provider`."
    )
    embedding_model: str = Field(
        "text-embedding-3-small",
        pattern=r"^[A-Za-z0-9._:/-]{1,100}$",
        description="The provider's model that makes vectors; for Azure the name of the deployment.",
    )
    embedding_dimensions: int = Field(
        512,
        ge=8,
        le=4000,
        description=(
            "How many numbers its vectors have; the model is asked for so many. Beyond 1000 PostgreSQL keeps them "
            "apart from their rows, and comparing them takes several times as long."
        ),
    )
    embedding_timeout_seconds: float = Field(
        10, ge=0.1, le=120, description="How long the provider of vectors may take for one answer."
    )
    memory_erase_days: int = Field(
        30,
        ge=0,
        le=3650,
        description=(
            "For how long a memory that was forgotten can be restored. Then its text is erased for good, also from "
            "the history."
        ),
    )
    rate_limit_window_seconds: int = Field(
        60,
        ge=1,
        le=3600,
        description=(
            "The time over which requests are counted, in the Valkey of REDIS_URL; without one they are not. While it "
            "does not answer requests go on uncounted (metric `pmis_rate_limits_up`)."
        ),
    )
    rate_limit_person: int = Field(
        6000,
        ge=0,
        le=10_000_000,
        description=(
            "Requests of one person in RATE_LIMIT_WINDOW_SECONDS, all sessions together; more answer 429. 0: no limit."
        ),
    )
    rate_limit_token: int = Field(
        3000,
        ge=0,
        le=10_000_000,
        description="The same for one API token, whose requests do not count as its owner's.",
    )
    rate_limit_address: int = Field(
        600,
        ge=0,
        le=10_000_000,
        description=(
            "The same for one client address (IPv6: per /64), of requests that show no good sign-in. Who is signed in "
            "is not counted here: a whole office may have one address."
        ),
    )
    signin_window_seconds: int = Field(
        300, ge=1, le=86_400, description="The time over which attempts to sign in or to refresh are counted."
    )
    signin_account_attempts: int = Field(
        10,
        ge=1,
        le=1_000_000,
        description=(
            "Failed attempts per account in SIGNIN_WINDOW_SECONDS; more answer 429. Successful ones do not count."
        ),
    )
    signin_codes_a_day: int = Field(
        50,
        ge=1,
        le=1_000_000,
        description=("Wrong codes of a second factor per account in a day; more answer 429. Good ones do not count."),
    )
    signin_address_attempts: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description=(
            "Failed attempts per client address (IPv6: per /64) in SIGNIN_WINDOW_SECONDS; more answer 429. "
            "Successful ones do not count."
        ),
    )
    oidc_providers: SecretStr | None = Field(
        None,
        description=(
            "Identity providers that people sign in through (OpenID Connect), as a JSON list of objects with `name`, "
            "`issuer`, `client_id`, `client_secret` or `client_secret_file`, and more: see "
            "`docs/guides/identity-providers.md`."
        ),
    )
    idempotency_days: int = Field(7, ge=1, le=365, description="How long the answer to an Idempotency-Key is kept.")

    mail_domain: str = Field(
        "pmis.localhost",
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$",
        description=(
            "The domain that mail comes to: `inbox@` the instance, `p@` the project with the prefix P, `p-001@` its "
            "package, `reply+TOKEN@` what was sent out about one."
        ),
    )
    mail_max_bytes: int = Field(
        25 * 1024 * 1024, ge=1024, le=100 * 1024 * 1024, description="The largest mail that is taken."
    )
    mail_authserv_id: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9.-]{1,253}$",
        description=(
            "The name under which your mail server writes Authentication-Results (SPF, DKIM, DMARC). Without it no "
            "sender is known, and every mail waits for somebody to look at it."
        ),
    )
    mail_trusted_relays: str = Field(
        "",
        description=(
            "Addresses or networks, separated by commas, whose Authentication-Results count when they hand over mail "
            "by SMTP: your own mail server, which removes forged ones. LMTP, IMAP and the webhook are trusted."
        ),
    )
    mail_smtp_host: str = Field("127.0.0.1", description="The address that `pmis mail serve` listens on.")
    mail_smtp_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="The port for SMTP; 0 takes any free one. `pmis up` listens when it is set.",
    )
    mail_smtp_tls_cert: Path | None = Field(
        None,
        description=(
            "The certificate (PEM, with its chain) with which SMTP offers STARTTLS. A renewed one is used from the "
            "next connection on."
        ),
    )
    mail_smtp_tls_key: Path | None = Field(None, description="The key (PEM) of MAIL_SMTP_TLS_CERT.")
    mail_smtp_require_tls: bool = Field(
        False, description="Take no mail by SMTP before STARTTLS. Needs MAIL_SMTP_TLS_CERT."
    )
    mail_lmtp_port: int | None = Field(None, ge=0, le=65_535, description="The port for LMTP, in the same way.")

    imap_server: str | None = Field(
        None,
        description=(
            "An IMAP server whose mailbox mail is fetched from. `pmis up` watches it when it is set; elsewhere run "
            "`pmis mail fetch --watch`."
        ),
    )
    imap_port: int = Field(993, ge=1, le=65_535, description="The IMAP server's port.")
    imap_username: str | None = Field(None, description="The login at the IMAP server.")
    imap_password: SecretStr | None = Field(None, description="The password at the IMAP server.")
    imap_security: Literal["tls", "starttls", "none"] = Field(
        "tls", description="How the connection to the IMAP server is protected. `none` is refused in production."
    )
    imap_folder: str = Field("INBOX", min_length=1, description="The folder of the mailbox that mail is fetched from.")
    imap_done_folder: str | None = Field(
        None,
        description=(
            "Where mail that was taken is moved to, a folder of its own. Default: it stays, marked as read, and what "
            "somebody else reads there first is not taken."
        ),
    )
    mail_webhook_secret: SecretStr | None = Field(
        None,
        description=(
            "What a mail service signs its calls of POST /api/v1/mail/inbound with, as Standard Webhooks describes it: "
            "`whsec_` and base64, or any text. Without it no mail is taken in that way."
        ),
    )
    mail_webhook_previous_secret: SecretStr | None = Field(
        None,
        description="The former value of MAIL_WEBHOOK_SECRET, good as well until the mail service has the new one.",
    )

    webhook_ports: str = Field(
        "443",
        pattern=r"^[0-9]{1,5}(,[0-9]{1,5}){0,9}$",
        description="The ports that addresses of outgoing webhooks may name, separated by commas.",
    )
    webhook_networks: str = Field(
        "",
        description=(
            "Private or local networks, separated by commas, that outgoing webhooks may lead into all the same. "
            "Whoever configures a project can then make PMIS call any address in them."
        ),
    )
    webhook_ca_file: Path | None = Field(
        None,
        description=(
            "Certificates (PEM) of authorities that receivers of webhooks may be vouched for by. "
            "Default: those that the system trusts."
        ),
    )
    webhook_breaker_failures: int = Field(
        5,
        ge=1,
        le=1000,
        description="After how many failed calls in a row a webhook rests; every further one makes it rest again.",
    )
    webhook_breaker_seconds: int = Field(
        300, ge=1, le=86_400, description="For how long it rests, until a single call is tried."
    )
    webhook_disable_days: int = Field(
        5, ge=1, le=365, description="After how many days without a call that succeeded a webhook is switched off."
    )
    webhook_keep_days: int = Field(
        30, ge=1, le=3650, description="How long it is kept what webhooks were told, and what they answered."
    )

    storage_dir: Path | None = Field(
        None,
        description=(
            "Where mails and attachments are kept, as files named by their SHA-256. "
            "Default: `objects` in the data folder. Not used when S3_BUCKET_NAME is set."
        ),
    )
    s3_bucket_name: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="An S3 bucket for mails and attachments, instead of STORAGE_DIR. It must exist.",
    )
    s3_endpoint_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+/?$",
        description="An S3 server other than Amazon's, such as https://minio.example.org:9000.",
    )
    s3_region: str = Field("us-east-1", description="The region of the bucket.")
    s3_access_key_id: SecretStr | None = Field(
        None, description="The key to the bucket. Default: what the machine's role or AWS_ACCESS_KEY_ID gives."
    )
    s3_secret_access_key: SecretStr | None = Field(None, description="The secret that belongs to S3_ACCESS_KEY_ID.")

    checkpoint_dir: Path | None = Field(
        None,
        description=(
            "Where signed checkpoints of the log are written, outside the database's reach. "
            "Default: `checkpoints` in the data folder."
        ),
    )
    checkpoint_origin: str = Field(
        "pmis.local/log",
        pattern=r"^[^\s+]+$",
        max_length=200,
        description="The log's name on the first line of every checkpoint: a host name and path that is yours alone.",
    )
    checkpoint_signing_key: SecretStr | None = Field(
        None, description="Base64 of the 32-byte Ed25519 seed that signs checkpoints. `pmis up` generates one."
    )
    checkpoint_previous_keys: str = Field(
        "",
        description=(
            "Public keys (`pmis ledger key`) that signed checkpoints before the present one, separated by spaces. "
            "Without them a change of the signing key, or of the SECRET_KEY it is derived from, stops the sealing."
        ),
    )
    seal_interval_seconds: int = Field(
        60, ge=1, le=86_400, description="How often the log is sealed when there are new events."
    )
    seal_events: int = Field(
        1000, ge=1, le=1_000_000, description="How many new events cause a seal before the interval is over."
    )

    api_host: str = Field("127.0.0.1", description="The address the API listens on.")
    api_port: int = Field(8000, ge=0, le=65_535, description="The port the API listens on; 0 takes any free one.")
    api_workers: int = Field(1, ge=1, le=64, description="How many API processes serve the port.")
    web_host: str = Field("127.0.0.1", description="The address that `pmis up` serves the web app on.")
    web_port: int = Field(
        3000, ge=0, le=65_535, description="The port that `pmis up` serves the web app on; 0 takes any free one."
    )
    trusted_proxy_addresses: str = Field(
        "",
        description=(
            "The proxies in front of the API, as addresses or networks with commas between. From them alone "
            "`X-Forwarded-For` says where a request comes from."
        ),
    )
    trusted_proxy_secret: SecretStr | None = Field(
        None,
        description=(
            "What those proxies must send as `X-Proxy-Secret` to be believed, at least 32 bytes. When it is not set, "
            "their address is enough for `X-Forwarded-For`, and they are believed nothing else."
        ),
    )
    trusted_proxy_users: bool = Field(
        False,
        description=(
            "Let those proxies say who asks: `X-User-Id` (a person's id or e-mail address), `X-User-Role` (what "
            "they may be at most, with commas between) and `X-User-Name` (what it calls them, which the log has "
            "beside the name they have here). Such headers of anybody else are ignored, always."
        ),
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins of other sites whose pages may call the API: comma-separated, or a JSON list."
    )
    enable_hsts: bool = Field(
        False,
        description=(
            "Tell browsers to reach this host and all below it by HTTPS alone for a year (Strict-Transport-Security). "
            "Browsers remember it: switch it on when all of it is served by HTTPS."
        ),
    )
    max_body_bytes: int = Field(
        1024 * 1024,
        ge=1024,
        le=1024 * 1024 * 1024,
        description="The largest request body that is read; more answers 413.",
    )

    public_url: str | None = Field(
        None, description="Where people open PMIS; links in mails begin with it. Default: PMIS_URL."
    )
    smtp_server: str | None = Field(
        None, description="The mail server that takes what PMIS sends. Without it nothing is mailed."
    )
    smtp_port: int = Field(587, ge=1, le=65_535, description="The mail server's port.")
    smtp_username: str | None = Field(None, description="The login at the mail server; none: it asks for no login.")
    smtp_password: SecretStr | None = Field(None, description="The password at the mail server.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="How the connection to the mail server is protected. `none` is refused in production."
    )
    mail_from: str = Field(
        "PMIS <pmis@localhost>",
        pattern=r"^[^\r\n<>]*<[^\s<>@]+@[^\s<>@]+>$|^[^\s<>@]+@[^\s<>@]+$",
        description="Whom mails come from: an address, or a name and an address in angle brackets.",
    )

    secret_names: ClassVar[tuple[str, ...]]

    @field_validator("mail_trusted_relays", "trusted_proxy_addresses", "webhook_networks")
    @classmethod
    def _networks(cls, value: str) -> str:
        for part in filter(None, map(str.strip, value.split(","))):
            try:
                ip_network(part)
            except ValueError:
                raise ValueError(f"{part!r} is not an address or a network such as 192.0.2.0/24") from None
        return value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except ValueError:
                raise ValueError("is neither a comma-separated list nor a JSON list of texts") from None
        return [origin.strip() for origin in value.split(",") if origin.strip()]

    @field_validator("cors_origins")
    @classmethod
    def _plain_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
                raise ValueError(
                    f"{origin!r} is not an origin such as https://pmis.example.org (a wildcard is not accepted)"
                )
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("job_retry_seconds", mode="before")
    @classmethod
    def _waits(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return tuple(float(part) for part in value.split(",") if part.strip())
        except ValueError:
            raise ValueError("is not a list of seconds such as 60,120,240") from None

    @field_validator("job_retry_seconds")
    @classmethod
    def _possible_waits(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(value) > 20 or not all(0 <= wait <= 86_400 for wait in value):  # noqa: PLR2004 - the limits it names
            raise ValueError("has at most 20 waits of 0 to 86400 seconds")
        return value

    @field_validator(
        "database_url",
        "database_owner_url",
        "database_sealer_url",
        "database_auditor_url",
        "database_worker_url",
        "database_relay_url",
    )
    @classmethod
    def _postgres_only(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        scheme, separator, rest = value.get_secret_value().partition("://")
        if not separator or scheme.partition("+")[0] not in ("postgresql", "postgres"):
            raise ValueError("must begin with postgresql:// (PostgreSQL is the only database)")
        return SecretStr(f"postgresql://{rest}")

    @field_validator("redis_url", "celery_broker")
    @classmethod
    def _redis_only(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and value.get_secret_value().partition("://")[0] not in ("redis", "rediss", "unix"):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value

    @field_validator(
        "secret_key",
        "jwt_secret_key",
        "jwt_previous_secret_keys",
        "checkpoint_signing_key",
        "metrics_token",
        "oidc_providers",
        "sentry_dsn",
        "openai_api_key",
        "azure_openai_api_key",
        "anthropic_api_key",
        "otel_exporter_otlp_headers",
        "trusted_proxy_secret",
    )
    @classmethod
    def _not_blank(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value is None or value.get_secret_value().strip() else None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no .env file is read: what applies must be visible
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - NAME_FILE does this, name by name
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, variables, files of secrets, the data folder."""
        return init_settings, env_settings, _SecretFiles(settings_cls), _DataFolder(settings_cls)

    @property
    def url(self) -> str:
        """Where the API is, without a slash at the end."""
        return (self.pmis_url or f"http://{self.api_host}:{self.api_port}").rstrip("/")

    @property
    def public(self) -> str:
        """Where people open PMIS, without a slash at the end."""
        return (self.public_url or self.url).rstrip("/")

    @property
    def app_dsn(self) -> str:
        """How the API reaches the database; raises SettingsError when it is not said and none is embedded."""
        return self._require_url(self.database_url)

    @property
    def owner_dsn(self) -> str:
        """How migrations reach the database."""
        return self._require_url(self.database_owner_url or self.database_url)

    @property
    def sealer_dsn(self) -> str:
        """How the sealer reaches the database."""
        return self._require_url(self.database_sealer_url or self.database_owner_url or self.database_url)

    @property
    def auditor_dsn(self) -> str:
        """How exports and replay checks reach the database."""
        return self._require_url(self.database_auditor_url or self.database_url)

    @property
    def worker_dsn(self) -> str:
        """How workers reach the database."""
        return self._require_url(self.database_worker_url or self.database_owner_url or self.database_url)

    @property
    def relay_dsn(self) -> str:
        """How the relay and the schedule reach the database."""
        return self._require_url(self.database_relay_url or self.database_owner_url or self.database_url)

    @property
    def broker_url(self) -> str:
        """Where the broker is; raises SettingsError when that is not said and none is embedded."""
        value = self.celery_broker or self.redis_url
        if value is None:
            raise SettingsError(
                f"REDIS_URL is not set, and no embedded Valkey runs from {self.pmis_data_dir}. "
                "Start one with `pmis up`, or set REDIS_URL."
            )
        return value.get_secret_value()

    @property
    def previous_jwt_secrets(self) -> list[str]:
        """The secrets that signed access tokens before the present one."""
        kept = self.jwt_previous_secret_keys
        return [one for one in kept.get_secret_value().split(",") if one.strip()] if kept else []

    @property
    def mail_webhook_keys(self) -> list[str]:
        """The secrets with which a mail service may sign; none: mail is not taken in that way."""
        if self.mail_webhook_secret is None:
            return []
        given = (self.mail_webhook_secret, self.mail_webhook_previous_secret)
        return [one.get_secret_value() for one in given if one is not None]

    @property
    def checkpoints(self) -> Path:
        """The folder for signed checkpoints."""
        return self.checkpoint_dir or self.pmis_data_dir / "checkpoints"

    @property
    def storage(self) -> Path:
        """The folder for what is too large for the database, where there is no bucket."""
        return self.storage_dir or self.pmis_data_dir / "objects"

    def require_secret(self, name: Literal["secret_key", "jwt_secret_key", "checkpoint_signing_key"]) -> str:
        """The secret of that name; raises SettingsError, which says how to set it."""
        value = cast("SecretStr | None", getattr(self, name))
        if value is None:
            raise SettingsError(
                f"{name.upper()} is not set. Set it (or {name.upper()}_FILE), or let `pmis up` generate one in "
                f"{self.pmis_data_dir}."
            )
        return value.get_secret_value()

    def require_servable(self) -> None:
        """Raise SettingsError, naming every variable at fault, when the API must not be served with these settings."""
        problems = self.problems()
        if problems:
            raise SettingsError("; ".join(problems) + ".", problems=problems)

    def problems(self) -> list[str]:
        """What keeps the API from being served: missing values anywhere; weak ones and PMIS_NOW in production."""
        found = [] if self.database_url else ["DATABASE_URL is not set"]
        strict = self.environment == "production"
        for name in ("secret_key", "jwt_secret_key"):
            value = cast("SecretStr | None", getattr(self, name))
            if value is None:
                found.append(f"{name.upper()} is not set")
            elif strict and (fault := weakness(value.get_secret_value())):
                found.append(f"{name.upper()} {fault}")
        if self.trusted_proxy_users:
            needed = ("trusted_proxy_addresses", "trusted_proxy_secret")
            found += [f"TRUSTED_PROXY_USERS is set without {one.upper()}" for one in needed if not getattr(self, one)]
        if self.embedder == "provider":
            azure = self.embedding_provider == "azure"
            needed = ("azure_openai_endpoint", "azure_openai_api_key") if azure else ("openai_api_key",)
            found += [f"EMBEDDER is provider without {one.upper()}" for one in needed if not getattr(self, one)]
        return [*found, *self._weak()] if strict else found

    def _weak(self) -> list[str]:
        """What is good enough for a trial, and not for production."""
        found: list[str] = []
        if self.trusted_proxy_secret is not None and (fault := weakness(self.trusted_proxy_secret.get_secret_value())):
            found.append(f"TRUSTED_PROXY_SECRET {fault}")
        faults = filter(None, map(weakness, self.mail_webhook_keys))
        found += [f"MAIL_WEBHOOK_SECRET or MAIL_WEBHOOK_PREVIOUS_SECRET {fault}" for fault in faults]
        faults = filter(None, map(weakness, self.previous_jwt_secrets))
        found += [f"JWT_PREVIOUS_SECRET_KEYS holds one that {fault}" for fault in faults]
        if self.secret_key is not None and self.jwt_secret_key is not None and self.secret_key == self.jwt_secret_key:
            found.append("JWT_SECRET_KEY is the same as SECRET_KEY")
        for name in (
            "database_url",
            "database_owner_url",
            "database_sealer_url",
            "database_auditor_url",
            "database_worker_url",
            "database_relay_url",
            "redis_url",
            "celery_broker",
        ):
            value = cast("SecretStr | None", getattr(self, name))
            password = urlsplit(value.get_secret_value()).password if value else None
            if password is not None and unquote(password).lower() in _DEFAULT_PASSWORDS:
                found.append(f"{name.upper()} has a default password")
        if self.smtp_server is not None and self.smtp_security == "none":
            found.append("SMTP_SECURITY is none, which sends the mail server's password in clear")
        if self.smtp_server is not None:
            for name in ("mail_from", "public_url"):
                if name not in self.model_fields_set:
                    found.append(f"{name.upper()} is not set, and mail goes out: nobody could answer or follow it")
        if self.imap_server is not None and self.imap_security == "none":
            found.append("IMAP_SECURITY is none, which sends the mailbox's password in clear")
        if self.pmis_now is not None:
            found.append("PMIS_NOW is set, which stops the clock")
        return found

    def _require_url(self, value: SecretStr | None) -> str:
        if value is None:
            raise SettingsError(
                f"DATABASE_URL is not set, and no embedded PostgreSQL runs from {self.pmis_data_dir}. "
                "Start one with `pmis up`, or set DATABASE_URL."
            )
        return value.get_secret_value()


Settings.secret_names = tuple(name.upper() for name, field in Settings.model_fields.items() if _is_secret(field))


def weakness(secret: str) -> str | None:
    """Why a secret must not protect anything, as the end of a sentence; None for a good one."""
    size = len(secret.encode())
    lowered = secret.lower()
    if any(word in lowered for word in _PLACEHOLDERS):
        return "is a placeholder"
    if size < MIN_SECRET_BYTES:
        return f"is too short ({size} bytes, at least {MIN_SECRET_BYTES} needed)"
    if len(set(secret)) < _MIN_DISTINCT:
        return "is not random"
    return None


class _OwnSettings(Settings):
    """The settings without what the data folder says."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return super().settings_customise_sources(
            settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
        )[:-1]


def load_settings(*, embedded: bool = True, **values: Any) -> Settings:  # noqa: ANN401 - the fields check their own values
    """The settings of this process; raises SettingsError with the name of every variable at fault, never its value.

    Without `embedded`, what the data folder says about servers and secrets does not count.
    """
    try:
        return Settings(**values) if embedded else _OwnSettings(**values)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in fault['loc'][:1]).upper()} {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError("; ".join(problems) + ".", problems=problems) from None


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()
