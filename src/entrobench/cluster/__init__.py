"""Running on a SLURM cluster: what a job asks for, how a run is started on its nodes, submission of groups.

Workflow and the command line import it.
"""
