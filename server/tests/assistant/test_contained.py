"""What an answer may hold: nothing of it leads out of PMIS, and nothing of it is invisible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmis.assistant.contained import contained
from pmis.assistant.plan import AboutRecord

if TYPE_CHECKING:
    from tests.assistant.talking import Talk

OWN: Final = "https://pmis.example"
CANARY: Final = "zq-canary"


@pytest.mark.parametrize(
    "text",
    [
        f"![x](https://evil.example/{CANARY})",
        f"![x](//evil.example/{CANARY})",
        f"[see](https://evil.example/{CANARY})",
        f"[see](https://evil.example/{CANARY} 'title')",
        f"[see]: https://evil.example/{CANARY}",
        f"<https://evil.example/{CANARY}>",
        f"https://evil.example/{CANARY}",
        f"HTTPS://EVIL.example/{CANARY}",
        f"ftp://evil.example/{CANARY}",
        f"www.evil.example/{CANARY}",
        f"//evil.example/{CANARY}",
        f"http:\\\\evil.example/{CANARY}",
        f"<img src='https://evil.example/{CANARY}'>",
        f"<a href=javascript:alert(1)>{CANARY}</a",
        f"data:text/html,{CANARY}",
        f"https://pmis.example.evil.example/{CANARY}",
        f"https://pmis.example@evil.example/{CANARY}",
        f"![a](https://evil.example/{CANARY}\n)",
    ],
)
def test_nothing_leads_out(text: str):
    plain = contained(f"Before {text} after", OWN)
    assert "evil" not in plain.casefold()
    assert plain.startswith("Before")


@pytest.mark.parametrize("address", [OWN, f"{OWN}/packages/P-001", f"{OWN}?x=1"])
def test_what_leads_to_pmis_stays(address: str):
    assert address in contained(f"See {address} there", OWN)
    assert address in contained(f"[there]({address})", OWN)


def test_what_is_invisible_is_shown():
    assert contained("a\u202eb\u200bc\0d", OWN) == "a\\u202eb\\u200bc\\u0000d"
    assert contained("äöü 漢字 😀\nnext", OWN) == "äöü 漢字 😀\nnext"


@given(st.text(alphabet=st.sampled_from("[]()!<>:/\\.hwtps evil\n")))
def test_whatever_is_said_no_scheme_is_left(text: str):
    plain = contained(text, OWN)
    assert "http://" not in plain
    assert "](http" not in plain


@pytest.mark.anyio
async def test_what_others_wrote_into_a_record_leads_nowhere_either(talk: Talk):
    package = await talk.package(f"Plan ![x](https://evil.example/{CANARY}) b")
    said = await talk.ask("viewer", AboutRecord(package))
    assert "Plan x b" in said["response"]
    assert "evil" not in said["response"]
