"""Who lives in the demo. Apart from `demo`, so that `pmis up` can name them without loading the nouns."""

from __future__ import annotations

from typing import Final

PASSWORD: Final = "demo-demo-demo"  # noqa: S105 - printed on the screen; a demo is never a production install
PEOPLE: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("Ana Analyst", "analyst@demo.example", ("analyst",)),
    ("Omar Operator", "operator@demo.example", ("operator",)),
    ("Ada Admin", "admin@demo.example", ("admin",)),
    ("Ben Admin", "admin2@demo.example", ("admin",)),
    ("Eva Executive", "executive@demo.example", ("executive",)),
    ("Vic Viewer", "viewer@demo.example", ("viewer",)),
    ("Aud Auditor", "auditor@demo.example", ("auditor",)),
)


def lines() -> list[str]:
    """How the demo's people are introduced."""
    return [
        f"Demo people (password for all: {PASSWORD})",
        *(f"  {email:<24} {name}, {' and '.join(roles)}" for name, email, roles in PEOPLE),
    ]
