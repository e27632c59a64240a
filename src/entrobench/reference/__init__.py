"""The reference run: several seeds of every method on one experiment, kept as a bundle of tables that other
runs are checked against and that the head-to-head is computed from. Imported by the command line alone.
"""
