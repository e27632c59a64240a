"""Pinned sources: which way is taken, what is verified, what an error says. The hub and the web are fakes."""

import hashlib
import io
import urllib.error
import urllib.request
from typing import ClassVar

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RevisionNotFoundError

from entrobench.configs import Configs
from entrobench.data.sources import PinnedFile, Way, fetch, git_blob, pinned_files
from entrobench.errors import ConfigError, CorruptFile, GatedSource, MissingInput, PinMismatch
from entrobench.paths import repository_root

CONTENT = b'{"problem": "p"}\n'
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "1" * 40
CONFIGS = Configs(repository_root() / "configs")


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Empty folders of real data, mirror and cache; downloads allowed."""
    for name, variable in (
        ("real", "ENTROBENCH_SHARED_DATA"),
        ("mirror", "ENTROBENCH_MIRROR"),
        ("cache", "ENTROBENCH_CACHE"),
    ):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A fake hub: `answer` is bytes or an exception; `calls` are the arguments it was asked with."""

    class Hub:
        answer: object = CONTENT
        calls: ClassVar[list] = []

    def download(**arguments):
        Hub.calls.append(arguments)
        if isinstance(Hub.answer, Exception):
            raise Hub.answer
        (tmp_path / "from_hub").write_bytes(Hub.answer)
        return str(tmp_path / "from_hub")

    Hub.calls = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return Hub


@pytest.fixture
def web(monkeypatch):
    """A fake web server that knows ranges; `cut` makes it break off."""

    class Web:
        content: bytes = CONTENT
        cut: int | None = None
        calls: ClassVar[list] = []

    def urlopen(request, timeout):
        Web.calls.append((request.full_url, request.get_header("Range")))
        start = int((request.get_header("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(Web.content):
            raise urllib.error.HTTPError(request.full_url, 416, "Range Not Satisfiable", {}, None)
        rest = Web.content[start:]
        answer = io.BytesIO(rest[: Web.cut])
        answer.status = 206 if start else 200
        answer.headers = {"Content-Length": str(len(rest))}
        return answer

    Web.calls = []
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return Web


FILE = {"kind": "file", "path": "set/a.jsonl"}
HUB = {"kind": "hub", "repository": "owner/set", "revision": COMMIT, "path": "a.jsonl"}
GIT = {"kind": "git", "repository": "owner/repo", "revision": COMMIT, "path": "data/a b.jsonl"}


def pinned(*ways, **pin):
    return PinnedFile.model_validate({"sha256": SHA256, **pin, "ways": list(ways)})


def put(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# -- ways ----------------------------------------------------------------------------------------------------


def test_a_local_file_comes_first_and_the_hub_is_not_asked(places, hub):
    path = put(places / "real" / "set" / "a.jsonl")
    fetched = fetch(pinned(FILE, HUB, bytes=len(CONTENT)), "x")
    assert (fetched.path, fetched.way.kind, hub.calls) == (path, "file", [])
    assert fetched.record() == {
        "kind": "file",
        "path": "set/a.jsonl",
        # where the same bytes are published
        "repository": "owner/set",
        "revision": COMMIT,
        "path_there": "a.jsonl",
        "bytes": len(CONTENT),
        "sha256": SHA256,
    }


def test_the_hub_is_asked_for_the_pinned_revision_of_a_data_set(hub):
    assert fetch(pinned(FILE, HUB), "x").way.kind == "hub"
    assert hub.calls == [
        {
            "repo_id": "owner/set",
            "filename": "a.jsonl",
            "repo_type": "dataset",
            "revision": COMMIT,
            "local_files_only": False,
        }
    ]


@pytest.mark.parametrize(("offline", "download"), [("1", True), ("0", False)])
def test_offline_or_without_download_only_the_hubs_cache_is_read(hub, web, monkeypatch, offline, download):
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    fetch(pinned(HUB), "x", download)
    assert hub.calls[0]["local_files_only"] is True
    hub.answer = LocalEntryNotFoundError("not in the cache")
    with pytest.raises(MissingInput, match=r"HF_HUB_OFFLINE=1|not downloaded yet") as error:
        fetch(pinned(FILE, HUB, GIT), "configs/x.yaml: train", download)
    text = str(error.value)
    assert "configs/x.yaml: train" in text
    assert text.count("\n") == 3, "one line for each way that was tried"
    assert web.calls == []


@pytest.mark.parametrize("way", [HUB, GIT])
def test_a_mirror_is_read_before_the_network_and_verified(places, hub, web, way):
    path = put(places / "mirror" / way["repository"] / way["path"])
    assert fetch(pinned(way), "x").path == path
    assert (hub.calls, web.calls) == ([], [])
    path.write_bytes(b"another")
    with pytest.raises(PinMismatch, match=f"expected {SHA256}"):
        fetch(pinned(way), "x")


def test_a_file_from_git_is_kept_by_its_commit(places, web):
    first, second = (fetch(pinned(GIT), "x") for _ in range(2))
    assert first.path == second.path == places / "cache" / "owner/repo" / COMMIT / "data/a b.jsonl"
    assert web.calls == [(f"https://raw.githubusercontent.com/owner/repo/{COMMIT}/data/a%20b.jsonl", None)]


def test_an_interrupted_download_goes_on_where_it_stopped(places, web):
    web.cut = 5
    with pytest.raises(MissingInput, match=f"broke off after 5 of {len(CONTENT)} bytes"):
        fetch(pinned(GIT), "x")
    web.cut = None
    assert fetch(pinned(GIT), "x").path.read_bytes() == CONTENT
    assert web.calls[1][1] == "bytes=5-"


def test_a_complete_part_is_taken_over(places, web):
    put(places / "cache" / "owner/repo" / COMMIT / "data" / "a b.jsonl.part")
    assert fetch(pinned(GIT), "x").path.read_bytes() == CONTENT


def test_a_way_with_its_own_hash_is_another_file(places, hub):
    hub.answer = b"the same rows in another file"
    own = {**HUB, "sha256": hashlib.sha256(hub.answer).hexdigest(), "rows": 7}
    fetched = fetch(pinned(FILE, own, rows=1), "x")
    assert (fetched.rows, fetched.bytes) == (7, len(hub.answer))
    put(places / "real" / "set" / "a.jsonl")
    assert fetch(pinned(FILE, own, rows=1), "x").origin is None, "the hub has other bytes"


def test_a_git_blob_is_what_git_says(places):
    # printf 'hello\n' | git hash-object --stdin
    path = put(places / "hello", b"hello\n")
    assert git_blob(path) == "ce013625030ba8dba906f756967f9e9ca394464a"


# -- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "pin", "message"),
    [
        (CONTENT[:5], {"bytes": len(CONTENT)}, f"has 5 bytes, expected {len(CONTENT)}: truncated"),
        (CONTENT + b"x", {"bytes": len(CONTENT)}, "longer than the pinned file"),
        (CONTENT[:-2] + b"]\n", {"bytes": len(CONTENT)}, f"has sha256 .*, expected {SHA256}"),
        (b"x", {"sha256": "", "git_blob": "2" * 40}, "has git blob .*, expected 2222"),
    ],
)
def test_a_file_that_is_not_the_pinned_one_is_an_error_and_no_reason_to_go_on(
    places, hub, content, pin, message
):
    path = put(places / "real" / "set" / "a.jsonl", content)
    with pytest.raises(PinMismatch, match=message) as error:
        fetch(pinned(FILE, HUB, **pin), "configs/x.yaml: train")
    assert "configs/x.yaml: train" in str(error.value)
    assert f"Type: rm {path}" in str(error.value)
    assert hub.calls == []


def test_a_pointer_of_git_lfs_is_named_whatever_the_pin(places):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + SHA256.encode() + b"\nsize 17\n"
    path = put(places / "real" / "set" / "a.jsonl", pointer)
    with pytest.raises(CorruptFile, match=f"{path} is a Git LFS pointer.*git lfs pull"):
        fetch(pinned(FILE, bytes=len(CONTENT)), "x")


def response(status):
    import httpx

    return httpx.Response(status, request=httpx.Request("GET", "https://hub"))


def test_a_gated_set_says_which_terms_to_accept(hub):
    hub.answer = GatedRepoError("gated", response=response(403))
    with pytest.raises(GatedSource, match=r"Accept its terms at https://page .*hf auth login"):
        fetch(pinned({**HUB, "terms": "https://page"}), "x")


def test_a_gated_set_says_so_offline_too(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.answer = LocalEntryNotFoundError("not in the cache")
    with pytest.raises(MissingInput, match="Accept its terms at https://page"):
        fetch(pinned({**HUB, "terms": "https://page"}), "x")


def test_a_revision_that_the_hub_does_not_know_is_named(hub):
    hub.answer = RevisionNotFoundError("no", response=response(404))
    with pytest.raises(PinMismatch, match=rf"{COMMIT}.*no such revision"):
        fetch(pinned(HUB), "x")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"ways": [FILE]}, "a file without a hash is not pinned"),
        ({"sha256": SHA256, "ways": []}, "ways"),
        ({"sha256": "abc", "ways": [FILE]}, "sha256"),
        ({"sha256": SHA256, "ways": [{**HUB, "revision": "main"}]}, "revision"),
        ({"sha256": SHA256, "ways": [{**HUB, "revision": ""}]}, "needs `repository` and `revision`"),
        ({"sha256": SHA256, "ways": [{**FILE, "kind": "ftp"}]}, "kind"),
        ({"sha256": SHA256, "way": [FILE]}, "way"),
    ],
)
def test_a_source_that_pins_nothing_is_refused(entry, message):
    with pytest.raises(ConfigError, match=message) as error:
        pinned_files({"kind": "files", "files": {"train": entry}}, "configs/x.yaml")
    assert "configs/x.yaml: source.files.train" in str(error.value)


def test_every_source_of_the_project_is_pinned():
    for kind in ("dataset", "benchmark"):
        for name in CONFIGS.names(f"{kind}s"):
            source = getattr(CONFIGS, kind)(name).source
            if source["kind"] == "files":
                for file in pinned_files(source, name).values():
                    assert all(isinstance(way, Way) for way in file.ways)
