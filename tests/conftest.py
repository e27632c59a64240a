"""The environment of every test: verl on the CPU, no hub, no other Ray."""

import os

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
