"""A pinned source becomes a local file, verified (bytes, SHA-256 or git blob) before anything reads it.

In a YAML under configs/datasets or configs/benchmarks:

    source:
      kind: files
      files:
        train:
          bytes: 3613818
          sha256: 039f...
          ways:
            - {kind: file, path: dapo/train.parquet}                   # below ENTROBENCH_SHARED_DATA
            - {kind: git, repository: owner/name, revision: <commit>, path: data/train.parquet}
            - {kind: hub, repository: owner/name, revision: <commit>, path: data/train.parquet, sha256: ...}

The ways are tried in this order; a way with a hash of its own is another file with the same rows. A file that
is there but is not the pinned one is an error, never a reason to try the next way. Nothing is downloaded when
HF_HUB_OFFLINE=1; ENTROBENCH_MIRROR names a folder that is looked into before the network, as
<mirror>/<repository>/<path>. Downloads from git are kept in ENTROBENCH_CACHE (default ~/.cache/entrobench),
those from the hub in its own cache; both go on where they stopped.
"""

import hashlib
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from entrobench.errors import ConfigError, CorruptFile, GatedSource, MissingInput, PinMismatch
from entrobench.files import sha256_file
from entrobench.paths import cache_folder, shared_data

GIT_HOST = "https://raw.githubusercontent.com"
LFS_HOST = "https://media.githubusercontent.com/media"
LFS_POINTER = b"version https://git-lfs"
TIMEOUT_SECONDS = 60
CHUNK = 1 << 20
_SHA256 = r"^([0-9a-f]{64})?$"
_SHA1 = r"^([0-9a-f]{40})?$"


class _Pin(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: int | None = None
    sha256: str = Field(default="", pattern=_SHA256)
    git_blob: str = Field(default="", pattern=_SHA1)
    rows: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether this pins anything."""
        return bool(self.sha256 or self.git_blob)


class Way(_Pin):
    """One way to a file. terms: the page of a gated set. lfs: the file lies in git's large-file store."""

    kind: Literal["file", "hub", "git"]
    path: str
    repository: str = ""
    revision: str = Field(default="", pattern=_SHA1)
    terms: str = ""
    lfs: bool = False

    @model_validator(mode="after")
    def _has_revision(self) -> "Way":
        if self.kind != "file" and not (self.repository and self.revision):
            raise ValueError(
                f"a {self.kind} way needs `repository` and `revision`, a commit of 40 hex digits"
            )
        return self

    def __str__(self) -> str:
        return (
            self.path if self.kind == "file" else f"{self.kind}:{self.repository}@{self.revision}:{self.path}"
        )


class PinnedFile(_Pin):
    """A file with its pin and the ways to it."""

    ways: list[Way] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_pinned(self) -> "PinnedFile":
        for way in self.ways:
            if not (way.is_set or self.is_set):
                raise ValueError(f"{way}: expected sha256 or git_blob; a file without a hash is not pinned")
        return self

    def pin_of(self, way: Way) -> _Pin:
        """What a file got this way has to be."""
        pin = way if way.is_set else self
        return _Pin(bytes=pin.bytes, sha256=pin.sha256, git_blob=pin.git_blob, rows=pin.rows)


@dataclass(frozen=True)
class Fetched:
    """A verified local file and where it came from. origin: where the same bytes are published, if known."""

    path: Path
    way: Way
    sha256: str
    bytes: int
    rows: int | None
    origin: Way | None = None

    def record(self) -> dict[str, Any]:
        """What a manifest says about it."""
        found: dict[str, Any] = {"kind": self.way.kind, "path": self.way.path}
        if self.origin is not None:
            found |= {"repository": self.origin.repository, "revision": self.origin.revision}
            found |= {"path_there": self.origin.path} if self.origin.path != self.way.path else {}
        return found | {"bytes": self.bytes, "sha256": self.sha256}


def pinned_files(source: dict[str, Any], where: str) -> dict[str, PinnedFile]:
    """The files of a `source` mapping. Raises ConfigError: where, key, expected, found."""
    files = source.get("files")
    if source.get("kind") != "files" or not isinstance(files, dict) or not files:
        raise ConfigError(
            f"{where}: source: expected kind: files with at least one file, found {source!r:.200}"
        )
    checked = {}
    for name, entry in files.items():
        try:
            checked[name] = PinnedFile.model_validate(entry)
        except ValidationError as error:
            problem = error.errors()[0]
            key = ".".join(["source.files", name, *map(str, problem["loc"])])
            raise ConfigError(f"{where}: {key}: {problem['msg']}, found {problem['input']!r:.200}") from error
    return checked


def fetch_all(source: dict[str, Any], where: str, download: bool = True) -> dict[str, Fetched]:
    """Every file of a source, verified. Raises an EntrobenchError: missing, gated, not the pinned one."""
    return {
        name: fetch(file, f"{where}: {name}", download) for name, file in pinned_files(source, where).items()
    }


def fetch(file: PinnedFile, where: str, download: bool = True) -> Fetched:
    """The verified local file of the first way that has it; without `download` only what is on this machine.

    Raises MissingInput with all that was tried, GatedSource, PinMismatch or CorruptFile.
    """
    tried = []
    for way in file.ways:
        getter = {"file": _from_folder, "hub": _from_hub, "git": _from_git}[way.kind]
        try:
            path = getter(way, download)
        except GatedSource:
            raise
        except MissingInput as error:
            tried.append(f"  {way}: {error}")
            continue
        fetched = verified(path, file.pin_of(way), way, where)
        same = [
            other for other in (way, *file.ways) if other.revision and file.pin_of(other) == file.pin_of(way)
        ]
        return replace(fetched, origin=same[0] if same else None)
    raise MissingInput(f"{where}: not on this machine. Tried:\n" + "\n".join(tried))


def verified(path: Path, pin: _Pin, way: Way, where: str) -> Fetched:
    """`path` as a Fetched. Raises PinMismatch: file, expected, found, and what to type; CorruptFile for a
    pointer, which a checkout without Git LFS leaves in place of the file.
    """
    with path.open("rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            raise CorruptFile(
                f"{path} is a Git LFS pointer, not the data. In its repository type: git lfs pull"
            )
    size = path.stat().st_size
    if pin.bytes is not None and size != pin.bytes:
        kind = "truncated" if size < pin.bytes else "longer than the pinned file"
        raise PinMismatch(
            f"{path} has {size} bytes, expected {pin.bytes}: {kind}.\n{_advice(path, way, where)}"
        )
    sha256 = sha256_file(path)
    if pin.sha256 and sha256 != pin.sha256:
        raise PinMismatch(f"{path} has sha256 {sha256}, expected {pin.sha256}.\n{_advice(path, way, where)}")
    if pin.git_blob and (found := git_blob(path)) != pin.git_blob:
        raise PinMismatch(
            f"{path} has git blob {found}, expected {pin.git_blob}.\n{_advice(path, way, where)}"
        )
    return Fetched(path, way, sha256, size, pin.rows)


def _advice(path: Path, way: Way, where: str) -> str:
    return (
        f"  The file is not the pinned revision ({where}: {way}).\n"
        f"  Type: rm {path}   and run the same command again, or put the right file there. If the new file "
        f"is meant, change the pin under configs/."
    )


def git_blob(path: Path) -> str:
    """The id that git gives to the content of a file."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids downloads, from the hub and from git."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def _from_folder(way: Way, download: bool) -> Path:
    del download
    folder = shared_data()
    if folder is None:
        raise MissingInput("no folder of real data; set ENTROBENCH_SHARED_DATA to it")
    path = folder / way.path
    if not path.is_file():
        raise MissingInput(f"{path} does not exist; put the file there or set ENTROBENCH_SHARED_DATA")
    return path


def mirrored(repository: str, path: str) -> Path | None:
    """A file of a repository in ENTROBENCH_MIRROR, None where it is not there."""
    mirror = os.environ.get("ENTROBENCH_MIRROR")
    file = Path(mirror) / repository / path if mirror else None
    return file if file is not None and file.is_file() else None


def _refuse_download(download: bool) -> None:
    if not download:
        raise MissingInput("not downloaded yet")
    if is_offline():
        raise MissingInput(
            "HF_HUB_OFFLINE=1 forbids the download; unset it, or set ENTROBENCH_MIRROR to a folder that has "
            "<repository>/<path>"
        )


def _from_hub(way: Way, download: bool) -> Path:
    if (file := mirrored(way.repository, way.path)) is not None:
        return file
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(
            hf_hub_download(
                repo_id=way.repository,
                filename=way.path,
                repo_type="dataset",
                revision=way.revision,
                local_files_only=not download or is_offline(),
            )
        )
    except GatedRepoError as error:
        raise GatedSource(_terms(way)) from error
    except LocalEntryNotFoundError as error:
        if way.terms and not os.environ.get("HF_TOKEN"):
            raise MissingInput(_terms(way)) from error
        _refuse_download(download)
        raise MissingInput(f"the hub cannot be reached: {error}; run the same command again") from error
    except RevisionNotFoundError as error:
        raise PinMismatch(
            f"{way}: the hub has no such revision. Compare `revision` under configs/ with "
            f"https://huggingface.co/datasets/{way.repository}/commits/main"
        ) from error
    except (EntryNotFoundError, RepositoryNotFoundError) as error:
        raise PinMismatch(
            f"{way}: the hub has no such file at this revision. Compare `repository` and `path` under "
            f"configs/ with https://huggingface.co/datasets/{way.repository}/tree/{way.revision}"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise MissingInput(f"the hub cannot be reached: {error}; run the same command again") from error


def _terms(way: Way) -> str:
    page = way.terms or f"https://huggingface.co/datasets/{way.repository}"
    return (
        f"{way.repository} is gated. Accept its terms at {page} with your account, then type: hf auth login "
        f"(or set HF_TOKEN) and run the same command again. A copy that you already have may lie at "
        f"$ENTROBENCH_MIRROR/{way.repository}/{way.path}"
    )


def _from_git(way: Way, download: bool) -> Path:
    if (file := mirrored(way.repository, way.path)) is not None:
        return file
    target = cache_folder() / way.repository / way.revision / way.path
    if target.is_file():
        return target
    _refuse_download(download)
    host = LFS_HOST if way.lfs else GIT_HOST
    _download(f"{host}/{way.repository}/{way.revision}/{urllib.parse.quote(way.path)}", target)
    return target


def _download(url: str, target: Path) -> None:
    """Write `url` to `target`, going on with what an interrupted download left in <target>.part."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            goes_on = have and answer.status == 206
            expected, received = answer.headers.get("Content-Length"), 0
            with part.open("ab" if goes_on else "wb") as stream:
                while chunk := answer.read(CHUNK):
                    received += stream.write(chunk)
            if expected is not None and received != int(expected):
                raise MissingInput(
                    f"{url} broke off after {received} of {expected} bytes; run the same command again, it "
                    f"goes on from there"
                )
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the part is complete already, or it is longer than the file
            raise MissingInput(f"{url} answers {error.code} {error.reason}") from error
    except MissingInput:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise MissingInput(f"{url} cannot be reached: {error}; run the same command again") from error
    os.replace(part, target)
