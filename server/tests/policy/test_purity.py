"""The policy reads no clock, no table, no file, no environment and no dice: nothing it imports could."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pmis import policy

ALLOWED = {
    "__future__",
    "collections.abc",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "functools",
    "importlib.resources",
    "json",
    "pmis.kit.errors",
    "pydantic",
    "pydantic_core",
    "types",
    "typing",
    "uuid",
}
# From modules that hold both, only what computes: a `datetime` is an argument here, a `UUID` is read and never made.
ONLY = {"datetime": {"datetime", "timedelta"}, "uuid": {"UUID"}, "importlib.resources": {"files"}}
CALLS = {
    "now",
    "today",
    "utcnow",
    "fromtimestamp",
    "open",
    "read_text",
    "write_text",
    "write_bytes",
    "getenv",
    "print",
    "input",
}


def impurities(source: str) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name not in ALLOWED or name.name in ONLY]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module not in ALLOWED and not module.startswith("pmis.policy."):
                found.append(module)
            found += [f"{module}.{n.name}" for n in node.names if n.name not in ONLY.get(module, {n.name})]
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            found += [name] if name in CALLS else []
    return found


SOURCES = sorted(Path(policy.__path__[0]).glob("*.py"))


def test_there_is_something_to_look_at():
    assert {"arbitrate.py", "approvers.py", "document.py", "access.py", "lifecycle.py"} <= {one.name for one in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_module_of_the_policy_only_computes(path: Path):
    assert impurities(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import os",
        "import random",
        "import uuid",
        "from uuid import uuid4",
        "from datetime import datetime\ndatetime.now()",
        "from psycopg import connect",
        "from pmis.kit.db import Database",
        "from pmis.ledger.store import append",
        "from sqlalchemy import select",
        "open('x')",
    ],
)
def test_twin_what_could_look_outside_is_noticed(source: str):
    assert impurities(source)
