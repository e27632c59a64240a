"""Tables, figures and the page, rendered from files: samples, curves, manifests, published values.

Only the command line imports it; it never imports a trainer.
"""
