"""docs/troubleshooting.md names every message of the program, and no other."""

import ast
import re
from pathlib import Path

import pytest

from maskgan_jax import errors

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "troubleshooting.md"
# What stands for all that a message puts in, here and in the docs.
PLACE = "…"


def normalized(text):
    return re.sub(rf"{PLACE}( ?{PLACE})*", PLACE, " ".join(text.split()))


def point(message):
    """A message as the docs list it."""
    return f"- `` {message} ``" if "`" in message else f"- `{message}`"


def template(node, names):
    """The text of an expression; None if it is not known before the program runs."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(value.value if isinstance(value, ast.Constant) else PLACE for value in values)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return names.get(name)
    return None


def assigned(tree):
    """The texts that are assigned to names in a module."""
    texts = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            texts[node.targets[0].id] = template(node.value, {})
    return {name: text for name, text in texts.items() if text}


def messages_of(trees):
    """The messages of all UserErrors, those that `locked` raises for its callers, and why photos are skipped."""
    classes = {"UserError"}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(isinstance(base, ast.Name) and base.id in classes for base in node.bases):
                classes.add(node.name)
    constants = {name: text for tree in trees for name, text in assigned(tree).items() if name.isupper()}
    found = set()
    for tree in trees:
        names = constants | assigned(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                called = getattr(node.func, "id", getattr(node.func, "attr", ""))
                places = {"locked": slice(1, 2), "Skipped": slice(2, 3), "_skipped": slice(3, 4)}
                for message in node.args[slice(1) if called in classes else places.get(called, slice(0))]:
                    if text := template(message, names):
                        found.add(normalized(text))
    return found


@pytest.fixture(scope="module")
def messages():
    return messages_of([ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "maskgan_jax").rglob("*.py"))])


@pytest.fixture(scope="module")
def listed():
    """The messages in the docs: the code that begins each point of a list."""
    points = re.findall(r"^- (?:`([^`]+)`|`` (.+?) ``)$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    return [normalized(one or other) for one, other in points]


def test_every_message_is_in_the_docs(messages, listed):
    missing = sorted(messages - set(listed))
    assert not missing, "add to docs/troubleshooting.md:\n" + "\n".join(map(point, missing))


def test_the_docs_name_no_other(messages, listed):
    gone = sorted(set(listed) - messages)
    assert not gone, "delete from docs/troubleshooting.md, with what to do:\n" + "\n".join(map(point, gone))
    assert len(listed) == len(set(listed)) > 300


def test_exit_codes_are_in_the_docs():
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert codes > {1}
    for code in (*codes, 0, 2, 130, 141):
        assert f"\n| {code} | " in DOCS.read_text(encoding="utf-8")


def test_how_messages_are_found():
    module = ast.parse("""
WHY = "because"
class Late(UserError): pass
def f(x):
    busy = f"{x} is busy"
    locked(x, busy)
    raise Late("too" " late")
    raise UserError(f"{x!r}{x} is {x:.3} px")
    raise UserError(WHY)
    raise ValueError("no")
    raise UserError(x)
    yield Skipped(x, "folder", "empty")
    yield _skipped("folder", x, x, f"not in {x}")
    return Skipped(x, x, x)
""")
    assert messages_of([module]) == {"… is busy", "too late", "… is … px", "because", "empty", "not in …"}
