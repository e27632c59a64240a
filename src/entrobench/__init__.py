"""entrobench: four papers on policy entropy in RLVR, reproduced on one trainer."""

__version__ = "0.1.0"
