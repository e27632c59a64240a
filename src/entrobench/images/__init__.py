"""Container images: names and recorded digests of the SIF files, their build, the linter of the recipes.

Cluster, rehearsal, workflow and the command line import it; it knows nothing of what runs inside.
"""
