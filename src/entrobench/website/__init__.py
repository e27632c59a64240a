"""Static pages over the results of a scale: papers, tables, cells, benchmarks, problems, methods.

Only the command line imports it. Its tables, figures and numbers are report's.
"""
