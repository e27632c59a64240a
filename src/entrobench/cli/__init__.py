"""The command line `entrobench`: one module a group of verbs, a verb a function with its options as types.

Nothing imports it. Verbs import what they run when they run, so that help starts at once.
"""
