"""Files of other people's that a prompt is made from (configs/prompts/<name>.yaml), prepared as JSON.

Prepared before any job starts, like the data: an evaluation downloads nothing. Code is parsed, never run.
"""

import ast
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from entrobench.configs import PromptFile
from entrobench.data.schema import parquet_rows
from entrobench.data.sources import Fetched, fetch_all
from entrobench.errors import ConfigError, CorruptFile, MissingInput
from entrobench.files import read_json, read_text, write_json

Files = dict[str, Path]


def prepare_prompt(config: PromptFile, target: Path, download: bool = True) -> dict[str, Any]:
    """Write what prompts take from a pinned file to `target`; without `download` from this machine alone.
    Raises an EntrobenchError; `target` is then as it was.
    """
    fetched = fetch_all(config.source, f"configs/prompts/{config.prompt}.yaml", download)
    content = read_prompt(config, fetched)
    source = {name: file.record() for name, file in fetched.items()}
    written = {"prompt": config.prompt, "source": source, "note": config.note, **content}
    write_json(target, written)
    return written


def read_prompt(config: PromptFile, fetched: dict[str, Fetched]) -> dict[str, Any]:
    """What prompts take from the fetched files. Raises ConfigError or CorruptFile."""
    if config.reader not in READERS:
        where = f"configs/prompts/{config.prompt}.yaml"
        raise ConfigError(f"{where}: reader: expected one of {sorted(READERS)}, found {config.reader!r}")
    return READERS[config.reader]({name: file.path for name, file in fetched.items()})


def prepare_or_say_why(config: PromptFile, target: Path) -> dict[str, Any] | None:
    """`prepare_prompt`; where the file cannot be had here, None, and the reason in `target`, so that an
    evaluation can run without what is asked with it and say why.
    """
    try:
        return prepare_prompt(config, target)
    except MissingInput as error:
        write_json(target, {"prompt": config.prompt, "missing": str(error)})
        return None


@cache
def prepared(path: Path) -> Any:
    """The content of a prepared file. Raises MissingInput, CorruptFile."""
    if not path.is_file():
        raise MissingInput(f"{path} does not exist. Type: entrobench prepare-prompt {path.stem} {path}")
    content = read_json(path)
    if "missing" in content:
        raise MissingInput(content["missing"])
    return content


def zeroeval_crux(files: Files) -> dict[str, Any]:
    """ZeroEval's user turn for CRUX: the question that it makes of code and input, in its template OEQA."""
    template = _assigned_text(files["template"], "OEQA")
    question = _returned_text(files["question"], "make_direct_output_prompt").strip()
    content = template.replace("{question}", question)
    if "{question}" not in template or not all(f"{{{{{name}}}}}" in content for name in ("code", "input")):
        raise CorruptFile(f"{files['template']}, {files['question']}: expected {{question}}, code and input")
    return {"messages": [{"role": "user", "content": content}]}


def few_shot_rows(files: Files) -> dict[str, Any]:
    """The rows of a few-shot split as they stand."""
    return {"shots": parquet_rows(files["shots"])}


READERS: dict[str, Callable[[Files], dict[str, Any]]] = {
    "zeroeval_crux": zeroeval_crux,
    "few_shot_rows": few_shot_rows,
}


def _parsed(path: Path) -> list[ast.stmt]:
    try:
        return ast.parse(read_text(path)).body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise CorruptFile(f"{path} is no Python: {error}") from error


def _assigned_text(path: Path, name: str) -> str:
    """The text that a module gives a name. Raises CorruptFile."""
    for node in _parsed(path):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if names == [name] and isinstance(node.value.value, str):
                return node.value.value
    raise CorruptFile(f"{path}: expected a text {name}, found none")


def _returned_text(path: Path, function: str) -> str:
    """The f-string that a function returns, its names as {{name}}. Raises CorruptFile."""
    for node in _parsed(path):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            returned = node.body[-1]
            if isinstance(returned, ast.Return) and isinstance(returned.value, ast.JoinedStr):
                return "".join(_piece(piece, path) for piece in returned.value.values)
    raise CorruptFile(f"{path}: expected a function {function} that returns an f-string, found none")


def _piece(piece: ast.expr, path: Path) -> str:
    if isinstance(piece, ast.Constant) and isinstance(piece.value, str):
        return piece.value
    plain = isinstance(piece, ast.FormattedValue) and piece.conversion == -1 and piece.format_spec is None
    if plain and isinstance(piece.value, ast.Name):  # type: ignore[attr-defined]
        return f"{{{{{piece.value.id}}}}}"  # type: ignore[attr-defined]
    raise CorruptFile(f"{path}: expected text and names in the f-string, found {ast.unparse(piece)}")
