"""Training with verl. The only package that imports verl; others import only modules of it that do not."""
