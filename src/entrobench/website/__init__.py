"""Static pages over the results of a scale: papers, tables, cells, benchmarks, problems, methods.

Imported by: cli. Its tables, figures and numbers are report's; here is what only pages need.
"""
