"""No code from outside is run, nothing is writable by all, and the page asks no other machine."""

import ast
import os
import re
import stat
from html.parser import HTMLParser

import pytest
from support import make_model

from entrobench.cells import resolve, write_cell
from entrobench.cli.program import run_script
from entrobench.configs import Configs
from entrobench.errors import PinMismatch, UnsafeModel
from entrobench.files import read_json, sha256_file, write_json, write_jsonl
from entrobench.models.check import UNSAFE, check_model
from entrobench.paths import repository_root
from entrobench.report.page import render_page
from entrobench.report.table_text import CellText, Layout
from entrobench.training import launch as launch_module

pytestmark = pytest.mark.slow

SOURCE = repository_root() / "src/entrobench"
CONFIGS = Configs(repository_root() / "configs")


@pytest.fixture
def model(tmp_path):
    make_model(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("suffix", UNSAFE)
def test_weights_that_run_code_are_refused(model, suffix):
    check_model(model)
    (model / f"pytorch_model{suffix}").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UnsafeModel, match=rf"(?s)pytorch_model\{suffix}.*Only safetensors"):
        check_model(model)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_models_with_code_of_their_own_are_refused(model, name):
    write_json(model / name, read_json(model / name) | {"auto_map": {"AutoModel": "modeling.Model"}})
    with pytest.raises(UnsafeModel, match="trust_remote_code"):
        check_model(model)


def test_every_shard_of_a_downloaded_model_is_compared_with_its_pin(model):
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    shard = model / "model-00001-of-00001.safetensors"
    pins = {shard.name: sha256_file(shard), "config.json": "not compared: only weights are"}
    write_json(model / "model.json", {"files": pins})
    check_model(model)
    write_json(model / "model.json", {"files": pins | {"model-00002-of-00002.safetensors": "a" * 64}})
    with pytest.raises(PinMismatch, match="no such file"):
        check_model(model)


# These start our own processes and the sandbox, never a text
STARTERS = ("processes.py", "code_sandbox.py", "checker_process.py", "run.py")


def calls(path):
    """Names of the functions that a file calls, and of the modules that it imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            yield f"trust_remote_code={ast.unparse(node.value)}"
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield str(node.module)


def test_nothing_here_runs_a_models_code_reads_pickles_or_trusts_remote_code():
    # What reads a model's output; one file executes it and is run in the sandbox alone
    for path in [*SOURCE.glob("rewards/*.py"), *SOURCE.glob("evaluation/*.py")]:
        found = set(calls(path))
        executes = found & {"exec", "eval", "compile", "os.system", "runpy"}
        assert executes == ({"exec"} if path.name == "in_sandbox.py" else set()), path
        assert "entrobench.rewards.in_sandbox" not in found, path
        assert "subprocess" not in found or path.name in STARTERS, path
    for path in SOURCE.rglob("*.py"):
        found = set(calls(path))
        assert not {name for name in found if "pickle" in name}, path
        assert "trust_remote_code=True" not in found, path


@pytest.mark.parametrize(("before", "after"), [(0o000, 0o022), (0o002, 0o022), (0o077, 0o077)])
def test_what_a_program_writes_is_not_writable_by_others(tmp_path, before, after):
    found = []

    def work():
        (tmp_path / "folder").mkdir()
        (tmp_path / "plain").write_text("x")
        write_jsonl(tmp_path / "folder/atomic.jsonl", [{"a": 1}])
        found.append(os.umask(0))
        os.umask(found[0])

    earlier = os.umask(before)
    try:
        assert run_script(work) == 0
    finally:
        os.umask(earlier)
    assert found == [after], "a stricter umask stays"
    written = [path for path in tmp_path.rglob("*") if path.name != "model"]
    assert len(written) == 3
    assert not any(stat.S_IMODE(path.stat().st_mode) & 0o022 for path in written)


FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "object": "data"}


class Requests(HTMLParser):
    """Addresses that a browser fetches when it opens a page; a link that a reader may follow is none."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in FETCHED and attributes.get(FETCHED[tag]):
            self.found.append(attributes[FETCHED[tag]])
        self.found += re.findall(r"url\(([^)]*)\)", attributes.get("style") or "")

    def handle_data(self, data):
        if self.lasttag == "style":
            self.found += re.findall(r"@import[^;]*|url\([^)]*\)", data)


def requests(page):
    parser = Requests()
    parser.feed(page)
    return [address for address in parser.found if not address.startswith("data:")]


def test_the_page_needs_no_other_machine_and_no_other_file(tmp_path):
    (tmp_path / "figure.png").write_bytes(b"png")
    hostile = '<script src="https://example.org/x.js"></script><img src="https://example.org/x.png">'
    cell = {
        "name": hostile, "status": hostile, "notes": [hostile], "commands": [hostile],
        "scores": [{"benchmark": hostile}], "manifest": None, "done": {"train": {"note": hostile}},
    }  # fmt: skip
    table = Layout(
        title=hostile, caption=hostile, headings=[(hostile, 1)], columns=[hostile], baseline=hostile,
        groups={hostile: {hostile: [CellText(hostile, hostile, True)]}},
        differences={hostile: {hostile: [hostile]}}, notes=[hostile],
    )  # fmt: skip
    page = render_page(hostile, [table], {hostile: tmp_path / "figure.png"}, [cell])
    assert "example.org" in page, "shown as text"
    assert requests(page) == []
    assert "data:image/png;base64," in page
    assert requests(hostile) == ["https://example.org/x.js", "https://example.org/x.png"]
    assert requests("<style>@import 'https://x/y.css'; a {b: url(https://x)}</style>") != []


@pytest.fixture
def training_environment(tmp_path, monkeypatch):
    """Starts a training run, of which only the environment is looked at, and returns that."""
    given = []
    monkeypatch.setattr(launch_module, "supervise", lambda command, folder, limits, env: given.append(env))
    cell = resolve("papo/7b-math/dapo/seed0", "smoke", CONFIGS, tmp_path)
    write_cell(cell, tmp_path / "cell.yaml", repository_root())

    def start():
        launch_module.launch(tmp_path)
        return given[-1]

    return start


def test_training_gets_no_secret_but_rays(training_environment, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdefghij")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another Ray's")
    given = training_environment()
    assert "HF_TOKEN" not in given
    assert (given["RAY_AUTH_MODE"], given["HF_HUB_OFFLINE"]) == ("token", "1")
    token = given["RAY_AUTH_TOKEN"]
    assert len(token) == 64
    assert training_environment()["RAY_AUTH_TOKEN"] != token


def test_on_several_nodes_training_has_the_token_of_their_ray(training_environment, monkeypatch):
    monkeypatch.setenv("ENTROBENCH_RAY_ADDRESS", "10.0.0.1:26379")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "token")
    given = training_environment()
    assert given["RAY_AUTH_TOKEN_PATH"] == "token"
    assert "RAY_AUTH_TOKEN" not in given
