"""Static pages over the results of a scale: papers, tables, cells, benchmarks, problems, methods."""
