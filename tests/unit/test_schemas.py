"""JSON schemas of the configuration: current, named in every file, and as strict as what reads the files."""

import re

import jsonschema
import pytest
import yaml

from entrobench.cli.schemas import FILES, FOLDER, schema_file, schema_texts
from entrobench.configs import Configs, RunConfig, Scale, checked
from entrobench.errors import ConfigError
from entrobench.paths import repository_root

ROOT = repository_root()
TEXTS = schema_texts()
DESCRIBED = [
    (name, path)
    for name, patterns in FILES.items()
    for pattern in patterns
    for path in sorted((ROOT / "configs").glob(pattern))
]


def test_every_schema_is_current():
    committed = {path.name: path.read_text() for path in (ROOT / FOLDER).iterdir()}
    expected = {schema_file(name): text for name, text in TEXTS.items()}
    assert committed == expected, "type: entrobench schemas"


def test_every_file_has_a_schema():
    # A site's own file is the user's
    files = set((ROOT / "configs").rglob("*.yaml")) - {ROOT / "configs" / "site.yaml"}
    assert {path for _, path in DESCRIBED} == files


@pytest.mark.parametrize(("name", "path"), DESCRIBED, ids=lambda value: getattr(value, "stem", value))
def test_a_file_names_its_schema_and_holds_to_it(name, path):
    schema = yaml.safe_load(TEXTS[name])
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text())
    assert named, "first line"
    assert (path.parent / named[1]).resolve() == (ROOT / FOLDER / schema_file(name)).resolve()
    content = yaml.safe_load(path.read_text())
    jsonschema.validate(content, schema)
    with pytest.raises(jsonschema.ValidationError, match="no_such_key"):
        jsonschema.validate({**content, "no_such_key": 1}, schema)


def test_a_renamed_key_says_its_new_name(tmp_path):
    with pytest.raises(ConfigError, match="results_dir: this key is called results now"):
        checked({"scale": "smoke", "papers": ["papo"], "results_dir": "x"}, RunConfig, "configs/config.yaml")


def test_a_misspelt_key_within_a_part_is_told_the_names_of_that_part():
    content = yaml.safe_load((ROOT / "configs/scales/smoke.yaml").read_text())
    content["guard"]["stal"] = content["guard"].pop("stall")
    with pytest.raises(ConfigError, match=r"guard\.stal: no such key\. Did you mean stall\?"):
        checked(content, Scale, "configs/scales/smoke.yaml")


def test_the_nearest_name_shares_its_beginning():
    with pytest.raises(ConfigError, match="Did you mean papo_polarity"):
        Configs(ROOT / "configs").method("papo_polartiy")
