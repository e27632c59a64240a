"""What the Snakefile imports: input files and resources of its rules. Light, since each job parses it again.

Only the Snakefile imports it.
"""
