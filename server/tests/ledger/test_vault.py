"""Values that may have to be erased: sealed beside the log, and gone for good when their key is."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import InvalidTag

from pmis.kit.db import Reach
from pmis.kit.ids import uuid7
from pmis.ledger.vault import PREFIX, ErasedSubjectError, Vault
from tests.builders import SECRET

if TYPE_CHECKING:
    from uuid import UUID

    from tests.builders import World

pytestmark = pytest.mark.anyio

VALUES: tuple[Any, ...] = ("text", "", "Ünïcode 🏗", 0, 12, True, None, [], ["a", {"b": None}], {"iban": "DE00"})


async def sealed(world: World, subject: UUID, *values: Any, vault: Vault | None = None) -> list[str]:
    async with world.database.write(Reach.INSTANCE) as session:
        refs = [await (vault or world.vault).seal(session, subject, value) for value in values]
        await session.commit()
    return refs


async def opened(world: World, refs: list[str], *, vault: Vault | None = None) -> list[Any]:
    async with world.read() as session:
        values = await (vault or world.vault).open(session, refs)
    assert set(values) == set(refs)
    return [values[ref] for ref in refs]


async def test_what_is_sealed_opens_again(world: World):
    refs = await sealed(world, uuid7(), *VALUES)
    assert await opened(world, refs) == list(VALUES)


async def test_the_reference_tells_nothing_and_is_never_the_same(world: World):
    subject = uuid7()
    first, second = await sealed(world, subject, "DE00 1234", "DE00 1234")
    assert first != second
    for ref in (first, second):
        assert ref.startswith(PREFIX)
        assert len(ref) == len(PREFIX) + 64
        guesses = ('["DE00 1234"]', '"DE00 1234"', "DE00 1234")
        assert ref.removeprefix(PREFIX) not in {hashlib.sha256(guess.encode()).hexdigest() for guess in guesses}


async def test_nothing_is_stored_in_clear(world: World):
    subject = uuid7()
    await sealed(world, subject, "a very clear canary")
    async with world.read() as session:
        rows = await session.all(
            "select ciphertext, wrapped from ledger.vault join ledger.vault_key using (subject) where subject = %s",
            (subject,),
        )
    assert len(rows) == 1
    assert all(b"canary" not in bytes(column) for column in rows[0])


async def test_unknown_references_open_to_nothing(world: World):
    missing = PREFIX + "0" * 64
    (ref,) = await sealed(world, uuid7(), "kept")
    assert await opened(world, [missing, ref]) == [None, "kept"]
    assert await opened(world, []) == []


class TestErasure:
    async def test_destroying_the_key_erases_every_value_of_the_subject_only(self, world: World):
        erased, kept = uuid7(), uuid7()
        refs = await sealed(world, erased, "one", "two")
        others = await sealed(world, kept, "three")
        await self._destroy(world, erased)
        assert await opened(world, refs + others) == [None, None, "three"]

    async def test_an_erased_subject_takes_no_new_value(self, world: World):
        subject = uuid7()
        await sealed(world, subject, "one")
        await self._destroy(world, subject)
        with pytest.raises(ErasedSubjectError, match="erased"):
            await sealed(world, subject, "two")

    async def test_a_subject_can_be_erased_before_anything_was_sealed(self, world: World):
        subject = uuid7()
        await self._destroy(world, subject)
        with pytest.raises(ErasedSubjectError):
            await sealed(world, subject, "one")

    async def test_erasing_twice_is_erasing_once(self, world: World):
        subject = uuid7()
        refs = await sealed(world, subject, "one")
        await self._destroy(world, subject)
        await self._destroy(world, subject)
        assert await opened(world, refs) == [None]

    async def test_the_log_and_the_rows_stay_as_they_are(self, world: World):
        party = await world.make_party(
            contacts=[{"name": "Nora North", "role": None, "email": None, "phone": None, "url": None}]
        )
        before = await world.events(party.id)
        await self._destroy(world, party.id)
        assert await world.events(party.id) == before
        assert (await world.get("party", party.id)).contacts == party.contacts
        assert await opened(world, [party.contacts]) == [None]
        await world.require_replay()

    async def _destroy(self, world: World, subject: UUID) -> None:
        async with world.database.write(Reach.INSTANCE) as session:
            await world.vault.destroy(session, subject)
            await session.commit()


class TestTampering:
    async def test_another_secret_opens_nothing(self, world: World):
        refs = await sealed(world, uuid7(), "one")
        with pytest.raises(InvalidTag):
            await opened(world, refs, vault=Vault("another " + "x" * 40))
        assert await opened(world, refs, vault=Vault(SECRET)) == ["one"]

    async def test_a_value_cannot_be_moved_to_another_reference(self, world: World):
        subject = uuid7()
        first, second = await sealed(world, subject, "one", "two")
        async with world.database.write(Reach.INSTANCE) as session:
            await session.execute(
                "update ledger.vault a set ciphertext = b.ciphertext from ledger.vault b "
                "where a.ref = %s and b.ref = %s",
                (first, second),
            )
            await session.commit()
        with pytest.raises(InvalidTag):
            await opened(world, [first])
        assert await opened(world, [second]) == ["two"]

    async def test_nor_to_another_subject(self, world: World):
        one, other = uuid7(), uuid7()
        (ref,) = await sealed(world, one, "one")
        await sealed(world, other, "two")
        async with world.database.write(Reach.INSTANCE) as session:
            await session.execute("update ledger.vault set subject = %s where ref = %s", (other, ref))
            await session.commit()
        with pytest.raises(InvalidTag):
            await opened(world, [ref])

    async def test_nor_a_key(self, world: World):
        one, other = uuid7(), uuid7()
        (ref,) = await sealed(world, one, "one")
        await sealed(world, other, "two")
        async with world.database.write(Reach.INSTANCE) as session:
            await session.execute(
                "update ledger.vault_key a set wrapped = b.wrapped from ledger.vault_key b "
                "where a.subject = %s and b.subject = %s",
                (one, other),
            )
            await session.commit()
        with pytest.raises(InvalidTag):
            await opened(world, [ref])


async def test_a_value_that_json_cannot_hold_is_refused_before_anything_is_stored(world: World):
    subject = uuid7()
    with pytest.raises(ValueError, match="not JSON compliant"):
        await sealed(world, subject, float("nan"))
    async with world.read() as session:
        assert await session.one("select 1 from ledger.vault_key where subject = %s", (subject,)) is None
