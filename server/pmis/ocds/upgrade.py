"""A release of OCDS 1.0 (or a 1.1 release that still uses what 1.1 deprecated) in the shape of 1.1, losing nothing.

What changed between the two, as far as meaning hangs on it:

| 1.0 | 1.1 |
|---|---|
| the organisation itself in `buyer`, `procuringEntity`, `tenderers`, `suppliers` | `parties`, referred to by `id` |
| `amendment`, one object | `amendments`, a list |
| a transaction's `amount`, `providerOrganization`, `receiverOrganization` | `value`, `payer`, `payee` |

An organisation without an `id` gets the one that 1.1 recommends: scheme and number of its registration, joined by a
hyphen; without a registration, a digest of its name. Details that contradict what `parties` says stay where they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from pmis.kit.canonical import sha256_hex
from pmis.ocds.values import as_list, as_object, as_objects, child, copied, identifier, line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pmis.ocds.values import Json, JsonObject

DETAILS: Final = ("identifier", "additionalIdentifiers", "address", "contactPoint")
_STAGES: Final = ("tender", "awards", "contracts")


def upgrade(release: JsonObject) -> JsonObject:
    """A copy of the release in which nothing has the shape of 1.0 only."""
    upgraded: JsonObject = copied(release)
    for stage in _STAGES:
        for part in _parts(upgraded, stage):
            _join_amendments(part)
    for contract in as_objects(upgraded.get("contracts")):
        for transaction in as_objects(child(contract, "implementation").get("transactions")):
            _rename(transaction)
    _gather_parties(upgraded)
    return upgraded


def references(release: JsonObject) -> Iterator[tuple[str, tuple[str | int, ...], JsonObject]]:
    """Every mention of an organisation outside `parties`: the role it has there, where it stands, and the mention."""
    slots: list[tuple[str, tuple[str | int, ...], Json]] = [("buyer", ("buyer",), release.get("buyer"))]
    tender = as_object(release.get("tender"))
    slots.append(("procuringEntity", ("tender", "procuringEntity"), tender.get("procuringEntity")))
    slots.extend(
        ("tenderer", ("tender", "tenderers", number), mention)
        for number, mention in enumerate(as_list(tender.get("tenderers")))
    )
    slots.extend(
        ("supplier", ("awards", place, "suppliers", number), mention)
        for place, award in enumerate(as_list(release.get("awards")))
        for number, mention in enumerate(as_list(as_object(award).get("suppliers")))
    )
    slots.extend(
        (role, ("contracts", place, "implementation", "transactions", number, role), as_object(transaction).get(role))
        for place, contract in enumerate(as_list(release.get("contracts")))
        for number, transaction in enumerate(as_list(child(contract, "implementation").get("transactions")))
        for role in ("payer", "payee")
    )
    return ((role, where, as_object(mention)) for role, where, mention in slots if isinstance(mention, dict))


def party_id(organisation: JsonObject) -> str | None:
    """The `id` of an organisation, or the one made for it; None when it has neither registration nor name."""
    if (own := identifier(organisation.get("id"))) is not None:
        return own
    registration = child(organisation, "identifier")
    number = identifier(registration.get("id"))
    if number is not None:
        return "-".join(part for part in (line(registration.get("scheme")), number) if part)
    name = line(organisation.get("name")) or line(registration.get("legalName"))
    return f"name-{sha256_hex(name.casefold())[:16]}" if name else None


def _parts(release: JsonObject, stage: str) -> list[JsonObject]:
    content = release.get(stage)
    return [as_object(content)] if isinstance(content, dict) else as_objects(content)


def _join_amendments(part: JsonObject) -> None:
    amendment = part.get("amendment")
    amendments = part.get("amendments", [])
    if isinstance(amendment, dict) and isinstance(amendments, list):
        known = as_list(amendments)
        part["amendments"] = known if amendment in known else [*known, amendment]
        del part["amendment"]


def _rename(transaction: JsonObject) -> None:
    if "value" not in transaction and isinstance(transaction.get("amount"), dict):
        transaction["value"] = transaction.pop("amount")
    for old, new in (("providerOrganization", "payer"), ("receiverOrganization", "payee")):
        registration = transaction.get(old)
        if new not in transaction and isinstance(registration, dict):
            # Its legal name is not taken for the name, which another stage of the process may have stated.
            transaction[new] = {"identifier": registration}
            del transaction[old]


def _gather_parties(release: JsonObject) -> None:
    listed = release.get("parties")
    if listed is not None and not isinstance(listed, list):
        return
    parties = as_objects(listed)
    for party in parties:
        if identifier(party.get("id")) is None and (made := party_id(party)):
            party["id"] = made
    by_id = {known: party for party in reversed(parties) if (known := identifier(party.get("id")))}
    by_name = {name: party for party in reversed(parties) if (name := line(party.get("name")))}
    gathered: list[JsonObject] = []
    for role, _, mention in references(release):
        details = [key for key in DETAILS if mention.get(key) is not None]
        known = identifier(mention.get("id"))
        if known is not None and not details:
            continue
        name = line(mention.get("name"))
        namesake = by_name.get(name) if name and known is None and "identifier" not in details else None
        key = identifier(namesake.get("id")) if namesake else party_id(mention)
        if key is None:
            continue
        party = by_id.get(key)
        if party is None:
            party = cast("JsonObject", {"id": key, "roles": []})
            by_id[key] = party
            gathered.append(party)
        _move(mention, party, key, role, details)
        if name := line(party.get("name")):
            by_name.setdefault(name, party)
    if gathered:
        release["parties"] = [*as_list(listed), *gathered]


def _move(mention: JsonObject, party: JsonObject, key: str, role: str, details: list[str]) -> None:
    """Make the mention a reference, and the party the holder of its details."""
    mention.setdefault("id", key)
    if line(mention.get("name")) and "name" not in party:
        party["name"] = mention["name"]
    for detail in details:
        if party.setdefault(detail, mention[detail]) == mention[detail]:
            del mention[detail]
    roles = as_list(party.setdefault("roles", []))
    if role not in roles:
        roles.append(role)
