"""The first hour on a GPU: what runs there against what it should compute, in stages that stand alone.

Below the command line; imports whatever a stage is about, inside that stage.
"""
