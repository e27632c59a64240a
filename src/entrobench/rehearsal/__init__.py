"""What can be found out before a run without running it: what this machine lacks for a scale.

Only the command line imports it.
"""
