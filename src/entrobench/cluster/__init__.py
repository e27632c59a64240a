"""Running on a SLURM cluster: what a job asks for, and how a training run is started on its nodes."""
