"""Tables, figures and the page, rendered from files: samples, curves, manifests, published values.

The command line and the site import it; it never imports a trainer.
"""
