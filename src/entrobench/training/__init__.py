"""Training with verl: the only package that imports verl, and only in the process that trains.

Cluster and the command line import launch.py and session.py, which do not.
"""
