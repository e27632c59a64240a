"""The environment of every test: verl on the CPU, no hub, no other Ray; and the real data, where they are."""

import os

import pytest

os.environ |= {
    "VERL_PLATFORM": "cpu",
    "VERL_USE_EXTERNAL_MODULES": "entrobench.training.cpu_platform",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data files, or a skip that says so."""
    from entrobench.paths import shared_data

    folder = shared_data()
    if folder is None:
        pytest.skip("the folder of real data is absent (set ENTROBENCH_SHARED_DATA)")
    return folder


@pytest.fixture
def real_path(real_data):
    """A function from a path below the folder of real data to what lies there, or a skip that names it."""

    def find(relative):
        path = real_data / relative
        if not path.exists():
            pytest.skip(f"the folder of real data has no {relative}")
        return path

    return find
