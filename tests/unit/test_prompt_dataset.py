"""The data set of prompts: verl's, without its library's cache."""

import datasets
import pandas as pd
import pytest
from omegaconf import OmegaConf
from support import make_tokenizer, make_training_set
from verl.utils.dataset.rl_dataset import RLHFDataset, get_dataset_class

from entrobench.cells import resolve
from entrobench.configs import Configs
from entrobench.paths import repository_root
from entrobench.training.prompt_dataset import PromptDataset
from entrobench.training.run import run_overrides

pytestmark = pytest.mark.slow

LONG = [3, 40, 41, 90]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder with a training set of 100 prompts of which four are long, and the library's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    make_training_set(tmp_path / "train.parquet", rows=100)
    frame = pd.read_parquet(tmp_path / "train.parquet")
    for row in LONG:
        frame.loc[row, "prompt"][0]["content"] *= 30
    frame.to_parquet(tmp_path / "train.parquet", index=False)
    return tmp_path


def dataset_of(kind, folder, **settings):
    config = {"max_prompt_length": 64, "filter_overlong_prompts_workers": None} | settings
    return kind([str(folder / "train.parquet")], make_tokenizer(), OmegaConf.create(config), None)


def test_it_has_verls_prompts_and_writes_no_cache_of_them(data):
    ours = dataset_of(PromptDataset, data)
    assert not list((data / "cache").rglob("cache-*.arrow"))
    verls = dataset_of(RLHFDataset, data)
    assert list((data / "cache").rglob("cache-*.arrow")), "verl's writes one"
    rows = [row["extra_info"]["index"] for row in ours.dataframe]
    assert rows == [row["extra_info"]["index"] for row in verls.dataframe]
    assert rows == [row for row in range(100) if row not in LONG]
    assert ours[5]["raw_prompt"] == verls[5]["raw_prompt"]


def test_prompts_of_any_length_stay_where_none_are_to_be_left_out(data):
    assert len(dataset_of(PromptDataset, data, filter_overlong_prompts=False)) == 100


def test_a_run_has_it(data):
    cell = resolve("papo/7b-math/dapo/seed0", "paper", Configs(repository_root() / "configs"), data)
    overrides = run_overrides(cell, data)
    named = {key: overrides[f"data.custom_cls.{key}"] for key in ("path", "name")}
    found = get_dataset_class(OmegaConf.create({"custom_cls": named}))
    assert found.__name__ == PromptDataset.__name__
    assert issubclass(found, RLHFDataset)
