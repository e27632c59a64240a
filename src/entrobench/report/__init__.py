"""Tables, figures and the page, rendered from files: samples, curves, manifests, published values. Never from
a trainer.
"""
