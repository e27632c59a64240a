"""A finished table as an RO-Crate (1.1) in one zip, and its import elsewhere, every hash verified.

In the crate stand the table's folder (tables, figures, page) and of each cell what the report is rendered
from: settings, manifest, scores, curves, samples. Checkpoints, models and logs stay behind. Each file's
entity carries `sha256` and `contentSize`; paths in the crate are those below the results folder.
"""

import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from entrobench.configs import Configs
from entrobench.errors import ConfigError, CorruptFile, EntrobenchError, MissingInput, PinMismatch
from entrobench.files import atomic_path, read_json, sha256_file
from entrobench.provenance.manifest import EVALUATIONS, LIVES, MANIFEST
from entrobench.provenance.redaction import secrets

METADATA = "ro-crate-metadata.json"
SHA256_TERM = "https://w3id.org/ro/terms/workflow-run#sha256"
TABLE_FILES = ("*.csv", "*.md", "*.tex", "*.png", "*.pdf", "*.html")
CELL_FILES = (
    "cell.yaml", MANIFEST, LIVES, EVALUATIONS, "scores.csv",
    "train.done.json", "eval.done.json", "metrics.parquet", "token_stats.parquet",
    "eval/*/samples.jsonl", "eval/*/samples.meta.json",
    "checkpoints.csv", "selection.csv", "eval/step*/eval.done.json",
    "eval/step*/*/samples.jsonl", "eval/step*/*/samples.meta.json",
)  # fmt: skip
MAX_FILES = 20_000
MAX_BYTES = 50 * 10**9  # of all files of a crate, unpacked
MAX_METADATA_BYTES = 64 * 10**6
# <scale>/<paper>/<file>, or a file of a cell; no part starts with a dot
_PATH = re.compile(r"[a-z]+/[a-z]+(/[\w+=-][\w.+=-]*)+")
CHUNK = 1 << 20


@dataclass(frozen=True)
class Imported:
    """What an import did. tables: <scale>/<paper> -> its cells. written, kept: files that were new, and that
    were there with the same content.
    """

    tables: dict[str, list[str]]
    written: int
    kept: int


def export_crate(folder: Path, out: Path, configs: Configs) -> list[str]:
    """Write the crate of a table's folder, results/<scale>/<paper>, to `out`; the files in it.

    Raises MissingInput for a table that is not rendered, or without the package rocrate; ConfigError for
    another folder; EntrobenchError for a link, for a file with a secret of the environment, for a full disk.
    """
    try:
        from rocrate.rocrate import ROCrate
    except ImportError as error:
        raise MissingInput(
            "the package rocrate is not installed, and export needs it. Type: make   (or pip install rocrate)"
        ) from error
    folder = folder.resolve()
    scale, paper = folder.parent.name, folder.name
    if scale not in configs.names("scales") or paper not in configs.papers():
        raise ConfigError(f"{folder}: expected the folder of a table, results/<scale>/<paper>")
    if not (folder / "index.html").exists():
        raise MissingInput(
            f"{folder} holds no index.html: the table is not rendered. Type: snakemake --profile "
            f"workflow/profiles/local results/{scale}/{paper}/index.html"
        )
    results = folder.parents[1]
    files = list(_files_of(folder))
    crate = ROCrate(version="1.1")
    crate.metadata.extra_terms["sha256"] = SHA256_TERM
    title = configs.protocol(paper).title
    crate.name = f"entrobench: {title}, scale {scale}"
    crate.description = (
        f"Tables, figures, per-sample results and manifests of the reproduction of {title} "
        f"(arXiv {configs.protocol(paper).arxiv}) at scale {scale}."
    )
    crate.license = "https://www.apache.org/licenses/LICENSE-2.0"
    for path in files:
        properties = {"sha256": sha256_file(path), "contentSize": str(path.stat().st_size), "name": path.name}
        crate.add_file(path, path.relative_to(results).as_posix(), properties=properties)
    out = out.resolve()
    with (
        atomic_path(out) as temporary,
        tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as scratch,
    ):
        made = Path(scratch) / "crate.zip"  # the library adds this suffix to other names
        crate.write_zip(made)
        os.replace(made, temporary)
    return [path.relative_to(results).as_posix() for path in files]


def _files_of(folder: Path) -> Iterator[Path]:
    found = [path for pattern in TABLE_FILES for path in sorted(folder.glob(pattern))]
    for cell in sorted(path.parent for path in folder.glob("*/*/seed*/cell.yaml")):
        found += [path for pattern in CELL_FILES for path in sorted(cell.glob(pattern))]
    values = [value.encode() for value in secrets()]
    for path in found:
        if path.is_symlink() or not path.is_file():
            raise EntrobenchError(f"{path} is no plain file; a crate holds none but plain files")
        if _contains(path, values):
            raise EntrobenchError(
                f"{path} holds a secret of this environment (a variable named like TOKEN or KEY). Nothing "
                f"was exported. Make the file again without it, and replace the secret: it was written down."
            )
        yield path


def _contains(path: Path, values: list[bytes]) -> bool:
    if not values:
        return False
    longest = max(map(len, values))
    rest = b""
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            window = rest + chunk
            if any(value in window for value in values):
                return True
            rest = window[-longest:]
    return False


def import_crate(archive: Path, results: Path) -> Imported:
    """Unpack a crate below `results`, once every file of it has the hash that its metadata states.

    Refuses paths that leave the folder, links, files that the metadata does not list or the archive does not
    hold, more than MAX_FILES files or MAX_BYTES bytes, and files that are there with other content. On any
    error nothing is changed. Raises MissingInput, CorruptFile, PinMismatch or EntrobenchError.
    """
    if not archive.is_file():
        raise MissingInput(f"{archive} does not exist")
    try:
        with zipfile.ZipFile(archive) as crate:
            entries = _checked_entries(archive, crate)
            expected = _expected(archive, crate, entries)
            return _unpack(archive, crate, entries, expected, results)
    # zipfile's NotImplementedError is a compression that it does not know, zlib's error a damaged stream
    except (zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError) as error:
        raise CorruptFile(f"{archive} is no sound zip file: {error}. Get it again.") from error
    except OSError as error:
        raise EntrobenchError(
            f"{archive} cannot be unpacked below {results}: {error.strerror or error}. Nothing was changed."
        ) from error


def _checked_entries(archive: Path, crate: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The archive's files by name. Raises CorruptFile for one that must not be unpacked."""
    infos = [info for info in crate.infolist() if not info.is_dir()]
    if len(infos) > MAX_FILES:
        raise CorruptFile(f"{archive} holds {len(infos):,} files, at most {MAX_FILES:,} are unpacked")
    size = sum(info.file_size for info in infos)
    if size > MAX_BYTES:
        raise CorruptFile(f"{archive} unpacks to {size:,} bytes, at most {MAX_BYTES:,} are unpacked")
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name, kind = info.filename, stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise CorruptFile(f"{archive}: {name!r} is a link or device; a crate holds none but plain files")
        if info.flag_bits & 1:
            raise CorruptFile(f"{archive}: {name!r} is encrypted")
        # orig_filename: what stands in the archive, before zipfile cuts it at a NUL
        if info.orig_filename != name or (name != METADATA and not _PATH.fullmatch(name)):
            raise CorruptFile(
                f"{archive}: the path {info.orig_filename!r} is refused: expected <scale>/<paper>/<file> "
                f"without '..', hidden files or backslashes. Nothing was unpacked."
            )
        if name in entries:
            raise CorruptFile(f"{archive}: {name!r} stands in it twice")
        entries[name] = info
    return entries


def _expected(archive: Path, crate: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> dict[str, str]:
    """File -> SHA-256 by the crate's metadata. Raises CorruptFile unless it lists the archive's files."""
    if METADATA not in entries:
        raise CorruptFile(f"{archive} holds no {METADATA}: it is no RO-Crate")
    if entries[METADATA].file_size > MAX_METADATA_BYTES:
        raise CorruptFile(f"{archive}: {METADATA} is larger than {MAX_METADATA_BYTES:,} bytes")
    try:
        graph = json.loads(crate.read(METADATA))["@graph"]
        found = {entity["@id"]: entity for entity in graph if _is_file(entity)}
        hashes = {name: str(entity["sha256"]) for name, entity in found.items()}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptFile(
            f"{archive}: {METADATA} is no metadata of this program's crates: {error!r}"
        ) from error
    listed, there = set(hashes), set(entries) - {METADATA}
    if listed != there:
        unlisted, absent = sorted(there - listed)[:5], sorted(listed - there)[:5]
        raise CorruptFile(
            f"{archive}: files and metadata differ: not in the metadata {unlisted}, not in the archive "
            f"{absent}. Nothing was unpacked."
        )
    return hashes


def _is_file(entity: Any) -> bool:
    if not isinstance(entity, dict):
        return False
    kinds = entity.get("@type", [])
    return "File" in (kinds if isinstance(kinds, list) else [kinds]) and "sha256" in entity


def _unpack(
    archive: Path,
    crate: zipfile.ZipFile,
    entries: dict[str, zipfile.ZipInfo],
    expected: dict[str, str],
    results: Path,
) -> Imported:
    results.mkdir(parents=True, exist_ok=True)
    root = results.resolve()
    written = kept = 0
    with tempfile.TemporaryDirectory(dir=root, prefix=".import-") as scratch:
        staged = Path(scratch)
        for name in expected:
            _extract(archive, crate, entries[name], staged / name, expected[name])
        conflicts = []
        for name, digest in expected.items():
            target = root / name
            if not target.parent.resolve().is_relative_to(root):
                raise EntrobenchError(f"{target.parent} leads out of {root} by a link. Nothing was changed.")
            if os.path.lexists(target) and (target.is_symlink() or sha256_file(target) != digest):
                conflicts.append(name)
        if conflicts:
            shown = "\n".join(f"    {name}" for name in conflicts[:10])
            raise PinMismatch(
                f"{len(conflicts)} files are in {results} already with other content, and nothing is "
                f"overwritten:\n{shown}\n  Import into another folder: entrobench import {archive} --results "
                f"DIR"
            )
        for name in expected:
            target = root / name
            if target.exists():
                kept += 1
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(staged / name, target)
            written += 1
    parts = [PurePosixPath(name).parts for name in expected]
    tables: dict[str, list[str]] = {"/".join(part[:2]): [] for part in sorted(parts)}
    for part in sorted(parts):
        if part[-1] == "cell.yaml":
            tables["/".join(part[:2])].append("/".join(part[1:5]))
    return Imported(tables, written, kept)


def _extract(
    archive: Path, crate: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, expected: str
) -> None:
    """Write one file, no byte more than its entry states, and check its hash."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = info.file_size
    with crate.open(info) as source, target.open("xb") as sink:
        while chunk := source.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise CorruptFile(f"{archive}: {info.filename} is larger than it says")
            sink.write(chunk)
    found = sha256_file(target)
    if found != expected:
        raise PinMismatch(
            f"{archive}: {info.filename} has sha256 {found}, expected {expected} by {METADATA}. The crate "
            f"was changed after it was made. Nothing was changed here."
        )
    os.chmod(target, 0o644)


def check_manifests(results: Path, cells: list[str], scale: str) -> list[str]:
    """Cells of an import whose samples are not those that their manifest names, or that have no manifest."""
    problems = []
    for cell in cells:
        folder = results / scale / cell
        if not (folder / MANIFEST).exists():
            problems.append(f"{cell}: no {MANIFEST}")
            continue
        for benchmark, digest in read_json(folder / MANIFEST).get("samples_sha256", {}).items():
            path = folder / "eval" / benchmark / "samples.jsonl"
            if not path.exists() or sha256_file(path) != digest:
                problems.append(f"{cell}: samples of {benchmark} are not those of {MANIFEST}")
    return problems
