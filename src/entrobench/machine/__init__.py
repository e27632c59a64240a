"""What this machine and its site are: generation backend, configs/site.yaml. Light: the Snakefile imports it.

All that runs something may import it; it imports the package root only.
"""
