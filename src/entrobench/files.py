"""Files so that nothing is lost: atomic writes, checksums, readers that name the broken file."""

import ast
import filecmp
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import tokenize
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrobench.errors import CorruptFile, EntrobenchError, MissingInput

if TYPE_CHECKING:
    import pandas as pd

GZIP_MARK = b"\x1f\x8b"


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Yield a path beside `folder` for a new folder; on success it replaces `folder`, else it is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        staged = Path(scratch) / folder.name
        yield staged
        shutil.rmtree(folder, ignore_errors=True)
        staged.rename(folder)


@contextmanager
def atomic_path(target: Path, keep_same: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it replaces `target`, on failure it is removed.

    keep_same: a `target` with the same content stays with its time, so that nothing is made again from it.
    Raises EntrobenchError when the folder is read-only or the disk is full; an existing `target` stays as it
    was.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise _write_error(target, error) from error
    temporary = Path(name)
    try:
        yield temporary
        if keep_same and target.exists() and filecmp.cmp(temporary, target, shallow=False):
            return
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except EntrobenchError:
        raise  # of who makes the content; some of them are OSErrors too
    except OSError as error:
        raise _write_error(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_error(target: Path, error: OSError) -> EntrobenchError:
    return EntrobenchError(
        f"cannot write {target}: {error.strerror or error}\n"
        f"  Expected a writable folder with free space at {target.parent}. Nothing was changed there. "
        f"Free some space or name another results folder, then run the same command again."
    )


def write_atomic(target: Path, text: str, keep_same: bool = False) -> None:
    """Write `text` (UTF-8) to `target` in one step. keep_same: see atomic_path."""
    with atomic_path(target, keep_same) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises MissingInput or CorruptFile, naming the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingInput(f"{path} does not exist") from error
    except ValueError as error:
        raise CorruptFile(
            f"{path} is not valid JSON: {error}. Delete it and run the same command again."
        ) from error
    except RecursionError as error:
        raise CorruptFile(
            f"{path} is JSON nested too deep to be read. Delete it and run the same command again."
        ) from error


def write_jsonl(target: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, atomically. A line with half a surrogate pair, which UTF-8 cannot hold,
    is written with escapes.
    """
    with atomic_path(target) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(_json_line(row) for row in rows)


def _json_line(row: dict[str, Any]) -> str:
    line = json.dumps(row, ensure_ascii=False) + "\n"
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(row) + "\n"
    return line


def read_text(path: Path) -> str:
    """The text of a file, which may be gzipped. Raises MissingInput, or CorruptFile with the line."""
    try:
        content = path.read_bytes()
        if content.startswith(GZIP_MARK):
            content = gzip.decompress(content)
        return content.decode("utf-8")
    except FileNotFoundError as error:
        raise MissingInput(f"{path} does not exist") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorruptFile(f"{path} cannot be unpacked: {error}. Delete it and get it again.") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CorruptFile(
            f"{path}:{line}: not valid UTF-8: {error.reason} at byte {error.start}. Get the file again."
        ) from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read one JSON object a line, gzipped or not. Raises MissingInput, or CorruptFile with the line."""
    return [row for _, row in numbered_jsonl(path)]


def numbered_jsonl(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """`read_jsonl` with each row's line number, from 1; empty lines count."""
    return list(stream_jsonl(path))


def stream_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """`numbered_jsonl`, one row at a time: no more than a line is in memory. Raises as it does."""
    start = 0
    # Bytes end at \n alone: a completion may hold U+2028, which is no line end in JSONL
    for number, line in enumerate(_byte_lines(path), start=1):
        if line.strip():
            yield number, _row(line, path, number, start)
        start += len(line)


def _byte_lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            is_packed = file.read(len(GZIP_MARK)) == GZIP_MARK
        with gzip.open(path) if is_packed else path.open("rb") as lines:
            yield from lines
    except FileNotFoundError as error:
        raise MissingInput(f"{path} does not exist") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorruptFile(f"{path} cannot be unpacked: {error}. Delete it and get it again.") from error


def _row(line: bytes, path: Path, number: int, start: int) -> dict[str, Any]:
    """One JSON object. start: where the line stands in the file, for messages."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise CorruptFile(
            f"{path}:{number}: not valid UTF-8: {error.reason} at byte {start + error.start}. "
            f"Get the file again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path}:{number}: not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise CorruptFile(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
    return row


def sha256_text(text: str) -> str:
    """Hex SHA-256 of `text` in UTF-8, half a surrogate pair included."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_kept(path: Path) -> str:
    """sha256_file, kept beside the file with its size and times: every job asks for that of gigabytes."""
    status = path.stat()
    key = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    kept = path.with_name(f".{path.name}.sha256")
    with suppress(EntrobenchError, OSError, ValueError, LookupError, TypeError):
        known = read_json(kept)
        if known["of"] == key and re.fullmatch("[0-9a-f]{64}", known["sha256"]):
            return str(known["sha256"])
    digest = sha256_file(path)
    with suppress(EntrobenchError):  # a folder that only its administrator may write
        write_json(kept, {"of": key, "sha256": digest})
    return digest


def sha256_code(path: Path) -> str:
    """Hex SHA-256 of what a Python file does: its lines without comments, docstrings and empty lines."""
    status = path.stat()
    return _sha256_code(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1024)
def _sha256_code(path: Path, changed: int, size: int) -> str:
    source = path.read_bytes()
    lines = source.decode("utf-8").split("\n")
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
            if first is not None and first.end_lineno is not None:
                lines[first.lineno - 1 : first.end_lineno] = [""] * (first.end_lineno - first.lineno + 1)
    return sha256_text("\n".join(line.rstrip() for line in lines if line.strip()))


def write_parquet(target: Path, frame: "pd.DataFrame") -> None:
    """Write a data frame as parquet, atomically."""
    with atomic_path(target) as temporary:
        frame.to_parquet(temporary, index=False)


def read_parquet(path: Path) -> "pd.DataFrame":
    """Read a parquet file. Raises MissingInput or CorruptFile, naming the file."""
    import pandas as pd

    if not path.exists():
        raise MissingInput(f"{path} does not exist")
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise CorruptFile(
            f"{path} cannot be read as parquet: {error}\n  Delete it and run the same command again."
        ) from error


def read_csv(path: Path) -> "pd.DataFrame":
    """Read a CSV file. Raises MissingInput or CorruptFile, naming the file."""
    import pandas as pd

    if not path.exists():
        raise MissingInput(f"{path} does not exist")
    try:
        return pd.read_csv(path)
    except (ValueError, pd.errors.ParserError) as error:
        raise CorruptFile(f"{path} cannot be read as CSV: {error}") from error
