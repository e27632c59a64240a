"""A linter for Apptainer definitions: a build must not touch what it shares with the machine that builds."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

# Apptainer binds the builder's own into %post, so a deletion there is one on the machine
SHARED_WITH_HOST = ("/tmp", "/var/tmp", "/dev")
DELETES = {"rm", "rmdir", "unlink", "shred", "truncate", "mv", "srm", "wipe", "tmpreaper"}
DELETES_IN_PYTHON = re.compile(
    r"rmtree|os\.(?:remove|removedirs|unlink|rmdir|truncate|rename|replace)|\.unlink\(|\.rmdir\("
)
SECTION = re.compile(r"%(\w+)")


def lint_definition(path: Path) -> list[str]:
    """What a definition, or a script that it copies, must not do; empty if all is well.

    It deletes by absolute, literal paths only, none of them in, or above, /tmp, /var/tmp or /dev; it copies
    nothing from there; it has no %setup, which runs on the machine itself.
    """
    findings = []
    for name, number, text in _sections(path):
        where = f"{path}:{number}"
        if name == "setup":
            findings.append(f"{where}: %setup runs on the machine that builds, not in the image; use %post")
        elif name == "files":
            for line in text.splitlines():
                source = (line.split() or [""])[0]
                if source and not source.startswith("#") and not _is_safe_source(source):
                    findings.append(f"{where}: %files: expected a path beside the recipe, found {source!r}")
                script = path.parent / source
                if source.endswith((".sh", ".py")) and script.is_file():
                    findings += lint_script(script)
        elif name in ("post", "test", "pre"):
            findings += [f"{where}: %{name}: {finding}" for finding in _lint_shell(text)]
    return findings


def lint_script(path: Path) -> list[str]:
    """lint_definition of a script that a recipe runs."""
    return [f"{path}: {finding}" for finding in _lint_shell(path.read_text(encoding="utf-8"))]


def _sections(path: Path) -> Iterator[tuple[str, int, str]]:
    """(name, first line, text) of each section of a definition."""
    name, first, lines = "", 1, list[str]()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if match := SECTION.match(line):
            yield name, first, "\n".join(lines)
            name, first, lines = match[1], number, []
        else:
            lines.append(line)
    yield name, first, "\n".join(lines)


def _is_safe_source(source: str) -> bool:
    return not source.startswith(("/", "~")) and not re.search(r"[${*]|\.\.", source)


def _lint_shell(text: str) -> list[str]:
    text = text.replace("\\\n", "")
    findings = [
        f"{match[0]!r} deletes from Python; write rm with a literal path"
        for match in DELETES_IN_PYTHON.finditer(text)
    ]
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    lexer = shlex.shlex("\n".join(lines).replace("`", ";"), posix=True, punctuation_chars=";&|()<>\n")
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t\r", "", True
    try:
        tokens = list(lexer)
    except ValueError as error:
        return [*findings, f"cannot be read as shell ({error}); write it without nested quotes"]
    command = list[str]()
    for token in [*tokens, ";"]:
        if token and set(token) <= set(";&|()\n"):
            findings += _lint_command(command)
            command = []
        else:
            command.append(token)
    return findings


def _lint_command(words: list[str]) -> list[str]:
    findings = []
    for number, word in enumerate(words):
        if word.startswith("#"):
            words = words[:number]
            break
    for word in words:
        if re.search(r"\s", word) or "$(" in word:  # a command in quotes: sh -c "...", "$(...)"
            findings += _lint_shell(re.sub(r"\$\(", ";", word))
    names = [word.rsplit("/", 1)[-1].lstrip("\\") for word in words]
    if names and "find" in names:
        start = names.index("find")
        if any(name in DELETES or name in ("-delete", "rsync") for name in names[start:]):
            end = next((n for n in range(start + 1, len(words)) if words[n].startswith("-")), len(words))
            findings += _lint_targets("find", words[start + 1 : end])
        return findings
    for number, name in enumerate(names):
        if name in DELETES:
            targets = [word for word in words[number + 1 :] if not word.startswith("-")]
            return findings + _lint_targets(name, targets)
    if "rsync" in names and any(word.startswith(("--delete", "--remove")) for word in words):
        findings.append("rsync deletes; write rm with a literal path")
    command = next((name for word, name in zip(words, names, strict=True) if not re.match(r"\w+=", word)), "")
    if "$" in command or "{{" in command or command == "eval":
        findings.append(f"{command!r} could be any command; write its name")
    return findings


def _lint_targets(command: str, targets: list[str]) -> list[str]:
    if not targets:
        return [f"{command}: expected the paths that it deletes, found none"]
    findings = []
    for target in targets:
        if not target.startswith("/") or re.search(r"[$*?\[{~]|\.\.", target):
            findings.append(
                f"{command}: expected an absolute path without variables and patterns, found {target!r}"
            )
            continue
        path = Path(target)
        if any(
            path.is_relative_to(shared) or Path(shared).is_relative_to(path) for shared in SHARED_WITH_HOST
        ):
            findings.append(
                f"{command}: {target} is the builder's own: {', '.join(SHARED_WITH_HOST)} are bound in"
            )
    return findings
