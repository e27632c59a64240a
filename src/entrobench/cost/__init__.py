"""What cells would cost before anything runs: arithmetic of FLOPs and bytes, estimate, its text, targets.

Training (disk space), cluster (submission) and the command line import it.
"""
