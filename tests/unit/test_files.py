"""Files: a failed write loses nothing, and a damaged file is named."""

import errno
import os

import pytest

from entrobench.errors import CorruptFile, EntrobenchError, MissingInput
from entrobench.files import (
    atomic_path,
    read_csv,
    read_json,
    read_jsonl,
    read_parquet,
    write_atomic,
    write_jsonl,
)


def test_a_full_disk_leaves_the_old_file_and_no_rest(tmp_path):
    target = tmp_path / "table.csv"
    write_atomic(target, "old")

    def fill_the_disk():
        with atomic_path(target) as temporary:
            temporary.write_text("half of the n")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(EntrobenchError, match=r"(?s)table\.csv: No space left.*Nothing was changed"):
        fill_the_disk()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(EntrobenchError, match=r"cannot write .*results/smoke/table\.csv"):
        write_atomic(tmp_path / "results" / "smoke" / "table.csv", "x")


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.json"
    write_atomic(target, "old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target):
        raise KeyboardInterrupt
    assert (target.read_text(), list(tmp_path.iterdir())) == ("old", [target])


def test_jsonl_keeps_line_separators_inside_a_completion(tmp_path):
    rows = [{"completion": "a\u2028b\nc\x85d"}, {"completion": "\x00"}]
    write_jsonl(tmp_path / "x.jsonl", rows)
    assert read_jsonl(tmp_path / "x.jsonl") == rows


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (read_json, b"{", "not valid JSON"),
        (read_json, b"[" * 10_000, "x is JSON nested too deep"),
        (read_jsonl, b'{"a": 1}\n{"a": \n', r"x:2: not valid JSON"),
        (read_jsonl, b"[1]\n", "expected a JSON object, found list"),
        (read_jsonl, b"\xff\xfe\n", "not valid UTF-8"),
        (read_parquet, b"PAR1 but no parquet", "cannot be read as parquet"),
        (read_csv, b'a,b\n1,"2\n', "cannot be read as CSV"),
        (read_csv, b"", "cannot be read as CSV"),
    ],
)
def test_a_damaged_or_missing_file_is_named(tmp_path, read, content, message):
    path = tmp_path / "x"
    with pytest.raises(MissingInput, match="x does not exist"):
        read(path)
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=message):
        read(path)
