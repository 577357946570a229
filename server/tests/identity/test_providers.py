"""What OIDC_PROVIDERS may say, and what it gives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from pmis.identity.groups import order_of, roles_after
from pmis.identity.oidc import safe_return
from pmis.identity.providers import Grant, providers_of
from pmis.kit.settings import SettingsError, load_settings
from pmis.policy.access import Role

if TYPE_CHECKING:
    from pathlib import Path

ONE: dict[str, Any] = {
    "name": "corp",
    "issuer": "https://login.example.org",
    "client_id": "pmis",
    "client_secret": "s3",
}


def read(*listed: dict[str, Any], text: str | None = None, environment: str = "test") -> Any:
    value = json.dumps(listed) if text is None else text
    return providers_of(load_settings(embedded=False, environment=environment, oidc_providers=SecretStr(value)))


def test_nothing_is_set():
    assert providers_of(load_settings(embedded=False)) == {}
    assert read() == {}


def test_what_is_left_out_is_the_careful_choice():
    one = read(ONE)["corp"]
    assert (one.shown, one.link_by_email, one.groups, one.scopes) == ("corp", False, {}, ("openid", "profile", "email"))
    assert "s3" not in repr(one)


def test_the_secret_comes_from_a_file(tmp_path: Path):
    file = tmp_path / "secret"
    file.write_text("from the file\n")
    told = {name: value for name, value in ONE.items() if name != "client_secret"}
    one = read({**told, "client_secret_file": str(file)})["corp"]
    assert one.client_secret.get_secret_value() == "from the file"
    file.write_text("\n")
    with pytest.raises(SettingsError, match="is empty"):
        read({**told, "client_secret_file": str(file)})
    with pytest.raises(SettingsError, match="cannot be read"):
        read({**told, "client_secret_file": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"name": "Corp"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"issuer": "http://login.example.org"}, "https://"),
        ({"issuer": "http://127.0.0.1.example.org"}, "https://"),
        ({"issuer": "https://u:p@login.example.org"}, "issuer"),
        ({"issuer": "https://login.example.org?x=1"}, "no query"),
        ({"issuer": "login.example.org"}, "issuer"),
        ({"client_id": ""}, "client_id"),
        ({"client_secret_file": "/x"}, "keep one of them"),
        ({"scopes": ["email"]}, "openid"),
        ({"nonsense": 1}, "nonsense"),
        ({"groups": {"g": [{}]}}, "must give"),
        ({"groups": {"g": [{"project": "P"}]}}, "together"),
        ({"groups": {"g": [{"roles": ["viewer"]}]}}, "together"),
        ({"groups": {"g": [{"project": "P", "roles": ["owner"]}]}}, "roles"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_quoted(told: dict[str, Any], words: str):
    with pytest.raises(SettingsError, match=words) as caught:
        read({**ONE, **told})
    assert "OIDC_PROVIDERS" in caught.value.detail
    assert "s3" not in caught.value.detail


@pytest.mark.parametrize("text", ["{}", "x", '"x"', "[1]", "[{}]"])
def test_what_is_no_list_is_refused(text: str):
    with pytest.raises(SettingsError, match="OIDC_PROVIDERS"):
        read(text=text)


@pytest.mark.parametrize("other", [{"name": "corp", "issuer": "https://b.example"}, {"name": "other"}])
def test_names_and_issuers_are_unique(other: dict[str, Any]):
    with pytest.raises(SettingsError, match="twice"):
        read(ONE, {**ONE, **other})


def test_http_is_for_this_machine_and_not_for_production():
    local = {**ONE, "issuer": "http://localhost:9000"}
    assert read(local)
    with pytest.raises(SettingsError, match="in production"):
        read(local, environment="production")


@pytest.mark.parametrize("target", ["/", "/packages?status=draft#top", "/a//b", "/%2f%2fevil.example", None])
def test_a_path_of_this_site_is_taken(target: str | None):
    assert safe_return(target) == (target or "/")


GROUPS = {
    "team": (Grant(project="P", roles=(Role.ANALYST,)), Grant(project="Q", roles=(Role.VIEWER,))),
    "lead": (Grant(project="P", roles=(Role.ADMIN, Role.ANALYST)), Grant(instance_admin=True)),
    "audit": (Grant(instance_auditor=True),),
}


@pytest.mark.parametrize(
    ("member_of", "p", "q", "rights"),
    [
        (set[str](), set[str](), set[str](), (False, False)),
        ({"unknown"}, set[str](), set[str](), (False, False)),
        ({"team"}, {"analyst"}, {"viewer"}, (False, False)),
        ({"lead"}, {"admin", "analyst"}, set[str](), (True, False)),
        ({"team", "audit"}, {"analyst"}, {"viewer"}, (False, True)),
        ({"team", "lead", "audit"}, {"admin", "analyst"}, {"viewer"}, (True, True)),
    ],
)
def test_groups_give_what_the_setting_says(member_of: set[str], p: set[str], q: set[str], rights: tuple[bool, bool]):
    order = order_of(GROUPS, frozenset(member_of))
    assert order.roles == {"P": (frozenset(p), frozenset({"admin", "analyst"})), "Q": (frozenset(q), {"viewer"})}
    assert (order.rights["instance_admin"], order.rights["instance_auditor"]) == rights


def test_a_right_that_no_group_gives_is_left_alone():
    assert order_of({"team": GROUPS["team"]}, frozenset()).rights == {}


@pytest.mark.parametrize(
    ("held", "given", "after"),
    [
        ([], {"analyst"}, ["analyst"]),
        (["viewer"], {"analyst"}, ["analyst", "viewer"]),
        (["admin", "viewer"], set[str](), ["viewer"]),
        (["admin", "analyst"], {"analyst"}, ["analyst"]),
    ],
)
def test_roles_that_the_setting_does_not_name_stay(held: list[str], given: set[str], after: list[str]):
    assert roles_after(held, frozenset(given), frozenset({"admin", "analyst"})) == after
