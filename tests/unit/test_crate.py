"""Export and import of a table: what the crate holds by the specification, and what import refuses."""

import json
import stat
import struct
import zipfile

import pytest
import yaml
from command_line import entrobench

from entrobench.configs import Configs
from entrobench.errors import ConfigError, CorruptFile, EntrobenchError, MissingInput, PinMismatch
from entrobench.files import sha256_file, sha256_text, write_json
from entrobench.paths import repository_root
from entrobench.provenance import crate as crates
from entrobench.provenance.crate import METADATA, check_manifests, export_crate, import_crate

CONFIGS = Configs(repository_root() / "configs")
CELL = "papo/7b-math/dapo/seed0"


@pytest.fixture
def table(tmp_path):
    """A rendered table with one cell, and what an export leaves behind."""
    folder = tmp_path / "results/smoke/papo"
    cell = tmp_path / "results/smoke" / CELL
    samples = '{"completion": "ü"}\n'
    for path, text in {
        folder / "index.html": "<html>",
        folder / "table1.csv": "model,row\n",
        folder / "logs/report.log": "log",
        cell / "cell.yaml": yaml.safe_dump({"cell": CELL}),
        cell / "scores.csv": "benchmark,metric\n",
        cell / "eval/math500/samples.jsonl": samples,
        cell / "train.log": "log",
        cell / "checkpoints/global_step_8/data.pt": "state",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    write_json(cell / "manifest.json", {"samples_sha256": {"math500": sha256_text(samples)}})
    return folder


@pytest.fixture
def archive(table, tmp_path):
    export_crate(table, tmp_path / "table.zip", CONFIGS)
    return tmp_path / "table.zip"


def graph(archive):
    with zipfile.ZipFile(archive) as crate:
        return json.loads(crate.read(METADATA))["@graph"]


def rewritten(archive, target, change):
    """A copy of the archive; change: a function of {name: bytes}."""
    with zipfile.ZipFile(archive) as crate:
        files = {name: crate.read(name) for name in crate.namelist()}
    change(files)
    with zipfile.ZipFile(target, "w") as crate:
        for name, content in files.items():
            crate.writestr(name, content)
    return target


def listed(name, content):
    """A change that adds a file which the metadata lists with its right hash."""

    def change(files):
        metadata = json.loads(files[METADATA])
        metadata["@graph"].append({"@id": name, "@type": "File", "sha256": sha256_text(content.decode())})
        files[METADATA] = json.dumps(metadata).encode()
        files[name] = content

    return change


def everything_below(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_the_crate_has_what_ro_crate_1_1_requires(archive):
    entities = {entity["@id"]: entity for entity in graph(archive)}
    # Section "Root Data Entity": the descriptor; of the root its type, name, description, date, licence
    descriptor, root = entities[METADATA], entities["./"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert root["@type"] == "Dataset"
    assert root["name"]
    assert root["description"]
    assert root["datePublished"][:2] == "20"
    assert root["license"]
    # Every file is a part of the root, with its own entity
    parts = {part["@id"] for part in root["hasPart"]}
    with zipfile.ZipFile(archive) as crate:
        assert parts == set(crate.namelist()) - {METADATA}
        context = json.loads(crate.read(METADATA))["@context"]
        for name in parts:
            assert entities[name]["@type"] == "File"
            assert entities[name]["contentSize"] == str(len(crate.read(name)))
    assert context[0] == "https://w3id.org/ro/crate/1.1/context"
    assert "sha256" in context[1], "a term of our own has to stand in the context"


def test_checkpoints_models_and_logs_stay_behind(archive):
    with zipfile.ZipFile(archive) as crate:
        names = set(crate.namelist()) - {METADATA}
    cell = f"smoke/{CELL}"
    assert names == {
        "smoke/papo/index.html", "smoke/papo/table1.csv", f"{cell}/cell.yaml", f"{cell}/manifest.json",
        f"{cell}/scores.csv", f"{cell}/eval/math500/samples.jsonl",
    }  # fmt: skip


def test_evaluations_of_checkpoints_are_taken_along(table, tmp_path):
    cell = tmp_path / "results/smoke" / CELL
    names = {
        "checkpoints.csv", "selection.csv", "eval/step8/eval.done.json", "eval/step8/math500/samples.jsonl",
        "eval/step8/math500/samples.meta.json",
    }  # fmt: skip
    for name in (*names, "eval/step8/sampled.1of1.json"):
        (cell / name).parent.mkdir(parents=True, exist_ok=True)
        (cell / name).write_text("{}")
    exported = export_crate(table, tmp_path / "table.zip", CONFIGS)
    assert {f"smoke/{CELL}/{name}" for name in names} <= set(exported)
    assert f"smoke/{CELL}/eval/step8/sampled.1of1.json" not in exported


def test_import_writes_the_same_files_and_a_second_time_nothing(archive, tmp_path):
    target = tmp_path / "elsewhere"
    done = import_crate(archive, target)
    assert (done.written, done.kept) == (6, 0)
    assert done.tables == {"smoke/papo": [CELL]}
    found = everything_below(target)
    original = everything_below(tmp_path / "results")
    assert found == {name: original[name] for name in found}
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o644 for p in target.rglob("*") if p.is_file())
    assert check_manifests(target, [CELL], "smoke") == []
    again = import_crate(archive, target)
    assert (again.written, again.kept) == (0, 6)
    (target / "smoke" / CELL / "eval/math500/samples.jsonl").write_text("{}")
    assert "samples of math500" in check_manifests(target, [CELL], "smoke")[0]


def test_each_cell_of_several_tables_is_checked_once_at_its_own_scale(archive, tmp_path, monkeypatch, capsys):
    def add(files):
        for name in ("mini/papo/7b-math/grpo/seed0/cell.yaml", "smoke/repo/aime-8b/grpo/seed0/cell.yaml"):
            listed(name, b"x")(files)

    several = rewritten(archive, tmp_path / "several.zip", add)
    target = tmp_path / "elsewhere"
    assert entrobench("import", several, "--results", target) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if "notice" in line or line.startswith("Table")] == [
        "notice: papo/7b-math/grpo/seed0: no manifest.json",
        f"Table: {target}/mini/papo. To render it anew:",
        f"Table: {target}/smoke/papo. To render it anew:",
        "notice: repo/aime-8b/grpo/seed0: no manifest.json",
        f"Table: {target}/smoke/repo. To render it anew:",
    ]


def test_nothing_is_overwritten(archive, tmp_path):
    target = tmp_path / "elsewhere"
    mine = target / "smoke" / CELL / "scores.csv"
    mine.parent.mkdir(parents=True)
    mine.write_text("my own")
    with pytest.raises(PinMismatch, match=r"1 files .* other content(?s:.*)scores\.csv"):
        import_crate(archive, target)
    assert everything_below(target) == {f"smoke/{CELL}/scores.csv": b"my own"}


def test_a_changed_file_is_refused_and_nothing_is_written(archive, tmp_path):
    def change(files):
        files["smoke/papo/table1.csv"] = b"model,ROW\n"

    with pytest.raises(PinMismatch, match=r"table1\.csv has sha256"):
        import_crate(rewritten(archive, tmp_path / "bad.zip", change), tmp_path / "elsewhere")
    assert everything_below(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize(
    "name",
    [
        "../outside", "smoke/papo/../../../outside", "/etc/outside", "smoke/papo/./x", "smoke\\papo\\x",
        "C:/papo/x", "smoke/papo/.hidden", "smoke/papo", "smoke//papo/x", "smoke/papo/a b", "smoke/papo/x\n",
    ],
)  # fmt: skip
def test_paths_that_leave_the_folder_or_are_odd_are_refused(archive, tmp_path, name):
    bad = rewritten(archive, tmp_path / "bad.zip", listed(name, b"x"))
    with pytest.raises(CorruptFile, match="is refused"):
        import_crate(bad, tmp_path / "deep/elsewhere")
    assert not list(tmp_path.rglob("outside*"))
    assert everything_below(tmp_path / "deep") == {}


def test_links_in_the_archive_and_in_the_target_are_refused(archive, tmp_path):
    info = zipfile.ZipInfo("smoke/papo/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    bad = rewritten(archive, tmp_path / "bad.zip", listed("smoke/papo/other", b"x"))
    with zipfile.ZipFile(bad, "a") as crate:
        crate.writestr(info, "/etc")
    with pytest.raises(CorruptFile, match="link or device"):
        import_crate(bad, tmp_path / "elsewhere")
    target, outside = tmp_path / "target", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (target / "smoke").symlink_to(outside)
    with pytest.raises(EntrobenchError, match="by a link"):
        import_crate(archive, target)
    assert everything_below(outside) == {}


def test_unlisted_absent_and_doubled_files_are_refused(archive, tmp_path):
    target = tmp_path / "elsewhere"
    more = rewritten(archive, tmp_path / "more.zip", lambda files: files.update({"smoke/papo/x.csv": b"x"}))
    with pytest.raises(CorruptFile, match=r"not in the metadata \['smoke/papo/x.csv'\]"):
        import_crate(more, target)
    fewer = rewritten(archive, tmp_path / "fewer.zip", lambda files: files.pop("smoke/papo/index.html"))
    with pytest.raises(CorruptFile, match=r"not in the archive \['smoke/papo/index.html'\]"):
        import_crate(fewer, target)
    with zipfile.ZipFile(archive, "a") as crate, pytest.warns(UserWarning, match="Duplicate name"):
        crate.writestr("smoke/papo/table1.csv", "again")
    with pytest.raises(CorruptFile, match="twice"):
        import_crate(archive, target)


def test_sizes_are_limited(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(crates, "MAX_FILES", 6)
    with pytest.raises(CorruptFile, match="7 files, at most 6"):
        import_crate(archive, tmp_path / "elsewhere")
    monkeypatch.setattr(crates, "MAX_FILES", 7)
    monkeypatch.setattr(crates, "MAX_BYTES", 100)
    with pytest.raises(CorruptFile, match="at most 100 are unpacked"):
        import_crate(archive, tmp_path / "elsewhere")


def test_what_is_no_crate_is_named(archive, tmp_path):
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(CorruptFile, match="no sound zip"):
        import_crate(tmp_path / "text.zip", tmp_path / "elsewhere")
    with pytest.raises(MissingInput, match="does not exist"):
        import_crate(tmp_path / "absent.zip", tmp_path / "elsewhere")
    cut = tmp_path / "cut.zip"
    cut.write_bytes(archive.read_bytes()[:-300])
    with pytest.raises(CorruptFile, match="no sound zip"):
        import_crate(cut, tmp_path / "elsewhere")
    bare = rewritten(archive, tmp_path / "bare.zip", lambda files: files.pop(METADATA))
    with pytest.raises(CorruptFile, match="no RO-Crate"):
        import_crate(bare, tmp_path / "elsewhere")
    for text in ("[]", "{", '{"@graph": 3}', '{"@graph": ["x"]}', "[" * 100_000):
        odd = rewritten(
            archive, tmp_path / "odd.zip", lambda files, t=text: files.update({METADATA: t.encode()})
        )
        with pytest.raises(CorruptFile):
            import_crate(odd, tmp_path / "elsewhere")


def test_a_damaged_stream_is_named_and_nothing_is_written(archive, tmp_path):
    with zipfile.ZipFile(archive) as crate:
        info = crate.getinfo(METADATA)
        assert info.compress_type == zipfile.ZIP_DEFLATED
    content = bytearray(archive.read_bytes())
    # The local header: 30 bytes, the last four of which are the lengths of the name and of what follows it
    lengths = struct.unpack_from("<HH", content, info.header_offset + 26)
    start = info.header_offset + 30 + sum(lengths)
    content[start : start + 20] = b"\xff" * 20
    archive.write_bytes(content)
    with pytest.raises(CorruptFile, match="no sound zip file"):
        import_crate(archive, tmp_path / "elsewhere")
    assert not list((tmp_path / "elsewhere").rglob("*"))


def test_export_refuses_other_folders_links_and_secrets(table, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="expected the folder of a table"):
        export_crate(table.parent, tmp_path / "x.zip", CONFIGS)
    (table / "table1.md").symlink_to("/etc/hostname")
    with pytest.raises(EntrobenchError, match="no plain file"):
        export_crate(table, tmp_path / "x.zip", CONFIGS)
    (table / "table1.md").unlink()
    monkeypatch.setenv("HF_TOKEN", "not-a-real-token")
    # Across the border of two chunks that are read
    monkeypatch.setattr(crates, "CHUNK", 16)
    (table / "table1.md").write_text("0123456789 not-a-real-token")
    with pytest.raises(EntrobenchError, match=r"table1\.md holds a secret"):
        export_crate(table, tmp_path / "x.zip", CONFIGS)
    assert not (tmp_path / "x.zip").exists()
    (table / "table1.md").unlink()
    (table / "index.html").unlink()
    with pytest.raises(MissingInput, match=r"snakemake .* results/smoke/papo/index\.html"):
        export_crate(table, tmp_path / "x.zip", CONFIGS)


def test_the_report_renders_from_an_import(tmp_path):
    """A real table, exported from made-up cells and rendered again elsewhere, is the same table."""
    from test_report import make_cell

    from entrobench.report.build import build_report

    results = tmp_path / "results"
    make_cell(results, "base", [2, 4])
    make_cell(results, "papo_polarity", [6, 8])
    build_report("papo", "smoke", CONFIGS, results)
    export_crate(results / "smoke/papo", tmp_path / "table.zip", CONFIGS)
    import_crate(tmp_path / "table.zip", tmp_path / "elsewhere")
    there = tmp_path / "elsewhere/smoke/papo"
    before = sha256_file(there / "table1.csv")
    for name in ("table1.csv", "index.html"):
        (there / name).unlink()
    build_report("papo", "smoke", CONFIGS, tmp_path / "elsewhere")
    assert sha256_file(there / "table1.csv") == before == sha256_file(results / "smoke/papo/table1.csv")
