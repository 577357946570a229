"""Settings: where values come from, what is refused, and that no text ever shows a secret."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pmis.kit.settings import Settings, SettingsError, load_settings, weakness

GOOD = "fV3kq9ZtY0wB7nLxR2sD5hJ8mC1pGaEu"
OTHER = "Qb6yT4vN8zK1cX9rW3eS7uF2jH5gMdPo"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch, tmp_path):
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    monkeypatch.setenv("PMIS_DATA_DIR", str(tmp_path / "data"))


def production(**values):
    given: dict[str, Any] = {
        "environment": "production",
        "database_url": "postgresql://app:x7Gp2LqM@db/pmis",
        "secret_key": GOOD,
        "jwt_secret_key": OTHER,
    }
    return load_settings(**(given | values))


class TestSources:
    def test_the_environment_by_upper_case_name(self, monkeypatch):
        monkeypatch.setenv("API_PORT", "9001")
        monkeypatch.setenv("LOG_LEVEL", "debug")
        settings = load_settings()
        assert (settings.api_port, settings.log_level, settings.environment) == (9001, "DEBUG", "development")

    def test_an_empty_variable_counts_as_absent(self, monkeypatch):
        monkeypatch.setenv("API_PORT", "")
        monkeypatch.setenv("SECRET_KEY", "")
        assert load_settings().api_port == 8000
        assert load_settings().secret_key is None

    @pytest.mark.parametrize("name", Settings.secret_names)
    def test_every_secret_can_come_from_a_file(self, monkeypatch, tmp_path, name):
        value = (
            "postgresql://a:b@c/d"
            if name.startswith("DATABASE")
            else "redis://x"
            if name in ("REDIS_URL", "CELERY_BROKER")
            else GOOD
        )
        (tmp_path / "secret").write_text(f"{value}\n")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
        assert getattr(load_settings(), name.lower()).get_secret_value() == value

    def test_a_value_and_a_file_for_the_same_secret_is_a_mistake(self, monkeypatch, tmp_path):
        (tmp_path / "secret").write_text(GOOD)
        monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "secret"))
        monkeypatch.setenv("SECRET_KEY", GOOD)
        with pytest.raises(SettingsError, match="SECRET_KEY and SECRET_KEY_FILE are both set"):
            load_settings()

    @pytest.mark.parametrize(
        ("content", "reason"), [(None, "No such file"), (b"\xff\xfe\x00", "not UTF-8")], ids=["missing", "binary"]
    )
    def test_a_file_that_cannot_be_read_is_named(self, monkeypatch, tmp_path, content, reason):
        path = tmp_path / "secret"
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setenv("JWT_SECRET_KEY_FILE", str(path))
        with pytest.raises(SettingsError, match=rf"JWT_SECRET_KEY_FILE names {path}.*{reason}"):
            load_settings()

    def test_only_secrets_have_files(self, monkeypatch, tmp_path):
        (tmp_path / "port").write_text("9001")
        monkeypatch.setenv("API_PORT_FILE", str(tmp_path / "port"))
        assert load_settings().api_port == 8000


class TestDataFolder:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        folder = tmp_path / "data"
        folder.mkdir()
        (folder / "secrets.json").write_text(json.dumps({"SECRET_KEY": GOOD, "JWT_SECRET_KEY": OTHER, "POSTGRES": {}}))
        running = {f"DATABASE{which}_URL": f"postgresql://u{which}@h/d" for which in ("", "_OWNER", "_SEALER")}
        (folder / "runtime.json").write_text(json.dumps({**running, "PMIS_URL": "http://127.0.0.1:8123"}))

    def test_what_up_keeps_there_is_found(self):
        settings = load_settings()
        assert settings.app_dsn == "postgresql://u@h/d"
        assert settings.owner_dsn == "postgresql://u_OWNER@h/d"
        assert settings.require_secret("secret_key") == GOOD
        assert settings.url == "http://127.0.0.1:8123"
        assert settings.problems() == []

    def test_a_database_of_ones_own_is_not_mixed_with_the_embedded_one(self, monkeypatch):
        monkeypatch.setenv("DATABASE_URL", "postgresql://mine@elsewhere/pmis")
        settings = load_settings()
        assert settings.owner_dsn == settings.sealer_dsn == "postgresql://mine@elsewhere/pmis"

    def test_up_itself_does_not_believe_what_a_killed_one_left(self):
        settings = load_settings(embedded=False)
        assert settings.database_url is None
        assert settings.secret_key is None

    @pytest.mark.parametrize("content", ["", "{", "[]", '"x"'])
    def test_a_damaged_file_is_as_good_as_none(self, tmp_path, content):
        (tmp_path / "data" / "runtime.json").write_text(content)
        with pytest.raises(SettingsError, match="DATABASE_URL is not set, and no embedded PostgreSQL runs"):
            _ = load_settings().app_dsn


class TestValues:
    @pytest.mark.parametrize(
        ("text", "origins"),
        [
            ("https://a.example", ("https://a.example",)),
            ("https://a.example, http://b.example:3000 ,", ("https://a.example", "http://b.example:3000")),
            ('["https://a.example"]', ("https://a.example",)),
            ("[]", ()),
        ],
    )
    def test_origins_come_as_csv_or_json(self, monkeypatch, text, origins):
        monkeypatch.setenv("CORS_ORIGINS", text)
        assert load_settings().cors_origins == origins

    @pytest.mark.parametrize(
        "text", ["*", "a.example", "https://a.example/path", "[1]", '["https://a.example"', "ftp://a"]
    )
    def test_what_is_no_origin_is_refused(self, monkeypatch, text):
        monkeypatch.setenv("CORS_ORIGINS", text)
        with pytest.raises(SettingsError, match="CORS_ORIGINS"):
            load_settings()

    @pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+asyncpg"])
    def test_every_way_to_write_postgresql_is_understood(self, scheme):
        assert load_settings(database_url=f"{scheme}://u:p@h/d?x=1").app_dsn == "postgresql://u:p@h/d?x=1"

    @pytest.mark.parametrize("url", ["sqlite:///x", "mysql://u:hidden@h/d", "u:hidden@h/d", "postgresqlx://h"])
    def test_other_databases_are_refused_without_showing_the_password(self, url):
        with pytest.raises(SettingsError, match="DATABASE_URL must begin with postgresql://") as refused:
            load_settings(database_url=url)
        assert "hidden" not in str(refused.value)

    def test_all_faults_are_named_at_once(self, monkeypatch):
        monkeypatch.setenv("API_PORT", "70000")
        monkeypatch.setenv("ENVIRONMENT", "staging")
        monkeypatch.setenv("REDIS_URL", "http://x")
        with pytest.raises(SettingsError, match=r"(?s)ENVIRONMENT.*REDIS_URL.*API_PORT"):
            load_settings()

    def test_a_fixed_time_needs_a_time_zone(self, monkeypatch):
        monkeypatch.setenv("PMIS_NOW", "2026-01-31T12:00:00")
        with pytest.raises(SettingsError, match="PMIS_NOW"):
            load_settings()
        monkeypatch.setenv("PMIS_NOW", "2026-01-31T12:00:00+02:00")
        assert load_settings().pmis_now == datetime(2026, 1, 31, 10, tzinfo=UTC)

    def test_no_secret_is_shown(self):
        settings = production(redis_url="redis://:hidden-too@h")
        shown = f"{settings!r} {settings} {settings.model_dump()}"
        assert not any(secret in shown for secret in (GOOD, OTHER, "x7Gp2LqM", "hidden-too"))


class TestProduction:
    def test_good_secrets_may_serve(self):
        production().require_servable()

    @pytest.mark.parametrize(
        ("values", "problem"),
        [
            ({"secret_key": None}, "SECRET_KEY is not set"),
            ({"jwt_secret_key": None}, "JWT_SECRET_KEY is not set"),
            ({"database_url": None}, "DATABASE_URL is not set"),
            ({"secret_key": GOOD[:31]}, "SECRET_KEY is too short (31 bytes, at least 32 needed)"),
            ({"jwt_secret_key": "changeme" * 8}, "JWT_SECRET_KEY is a placeholder"),
            ({"jwt_secret_key": "my super Secret key for production"}, "JWT_SECRET_KEY is a placeholder"),
            ({"secret_key": "ab" * 20}, "SECRET_KEY is not random"),
            ({"secret_key": OTHER}, "JWT_SECRET_KEY is the same as SECRET_KEY"),
            ({"database_url": "postgresql://app:postgres@h/d"}, "DATABASE_URL has a default password"),
            ({"database_owner_url": "postgresql://app:Password@h/d"}, "DATABASE_OWNER_URL has a default password"),
            ({"redis_url": "redis://:redis@h"}, "REDIS_URL has a default password"),
            ({"pmis_now": datetime(2026, 1, 1, tzinfo=UTC)}, "PMIS_NOW is set, which stops the clock"),
            ({"trusted_proxy_users": True}, "TRUSTED_PROXY_USERS is set without TRUSTED_PROXY_ADDRESSES"),
            (
                {"trusted_proxy_users": True, "trusted_proxy_addresses": "10.0.0.1"},
                "TRUSTED_PROXY_USERS is set without TRUSTED_PROXY_SECRET",
            ),
            ({"trusted_proxy_secret": "changeme" * 8}, "TRUSTED_PROXY_SECRET is a placeholder"),
        ],
    )
    def test_each_weakness_is_named(self, values, problem):
        settings = production(**values)
        assert problem in settings.problems()
        with pytest.raises(SettingsError) as refused:
            settings.require_servable()
        assert problem in str(refused.value)

    def test_development_asks_only_that_they_are_there(self):
        settings = production(environment="development", secret_key="short", jwt_secret_key="changeme")
        assert settings.problems() == []
        with pytest.raises(SettingsError, match="SECRET_KEY is not set"):
            production(environment="development", secret_key=None).require_servable()

    def test_a_proxy_is_believed_about_people_with_a_secret_only_wherever_it_runs(self):
        settings = production(environment="development", trusted_proxy_users=True, trusted_proxy_addresses="10.0.0.1")
        assert settings.problems() == ["TRUSTED_PROXY_USERS is set without TRUSTED_PROXY_SECRET"]

    def test_a_secret_that_is_asked_for_and_missing_says_how_to_set_it(self):
        with pytest.raises(SettingsError, match=r"SECRET_KEY is not set. Set it \(or SECRET_KEY_FILE\)"):
            load_settings().require_secret("secret_key")

    def test_what_up_generates_is_never_weak(self):
        import secrets

        assert [weakness(secrets.token_urlsafe(48)) for _ in range(2000)] == [None] * 2000


def test_each_setting_has_a_description():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_checkpoints_go_below_the_data_folder_unless_told_otherwise(tmp_path):
    assert load_settings().checkpoints == tmp_path / "data" / "checkpoints"
    assert load_settings(checkpoint_dir="/elsewhere").checkpoints == Path("/elsewhere")
