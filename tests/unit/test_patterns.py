"""No pattern repeats a group possessively: before Python 3.11.5 that loses matches (CPython #106052)."""

import importlib
import re
from re import _constants, _parser

from entrobench.paths import repository_root

SOURCE = repository_root() / "src"


def patterns_of(module):
    """The compiled patterns that a module, its tuples and its objects hold: (name, pattern)."""
    for name, value in vars(module).items():
        held = [value, *value] if isinstance(value, tuple | list) else [value]
        if type(value).__module__ == module.__name__:
            held += vars(value).values() if hasattr(value, "__dict__") else []
        for pattern in held:
            if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
                yield f"{module.__name__}.{name}", pattern


def repeated_groups(parsed):
    """The possessive repetitions of more than a character below a parsed pattern."""
    for operation, argument in parsed:
        if operation is _constants.POSSESSIVE_REPEAT:
            (*_, item) = argument
            if len(item) != 1 or item.getwidth() != (1, 1) or item[0][0] is _constants.BRANCH:
                yield item
        pending = [argument]
        while pending:
            value = pending.pop()
            if isinstance(value, _parser.SubPattern):
                yield from repeated_groups(value)
            elif isinstance(value, tuple | list):
                pending.extend(value)


def is_fragile(pattern):
    return any(repeated_groups(_parser.parse(pattern.pattern, pattern.flags)))


def test_such_a_pattern_is_found():
    assert is_fragile(re.compile(r"a(?:(?:b|cd)\s*+)*+"))
    assert is_fragile(re.compile(r"(?=(?:b|\\c)++d)"))
    assert not is_fragile(re.compile(r"a\s*+[bc]?+(?>(?:b|cd)*)\w++"))


def test_no_pattern_of_ours_depends_on_the_release_of_python():
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        assert re.search(r"\)[*+?]\+", text) is None, path
        if "re.compile(" in text:
            name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
            found += patterns_of(importlib.import_module(name))
    assert sum(name.endswith("multiple_choice._TEN_LETTERS") for name, _ in found) == 6
    assert [name for name, pattern in found if is_fragile(pattern)] == []
