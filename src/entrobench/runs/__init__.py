"""What a training run leaves in its folder: checkpoints, curve, lives, progress, requests to stop. No verl.

Training writes it; provenance, cost and cluster read it. It imports the package root only.
"""
