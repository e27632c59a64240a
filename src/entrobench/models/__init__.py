"""Models on disk: made, fetched, converted, checked for code and damage before anything reads them.

Provenance, training and evaluation import it.
"""
