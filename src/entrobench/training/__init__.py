"""Training with verl. The only package that imports verl; nothing imports it but its own entry point."""
