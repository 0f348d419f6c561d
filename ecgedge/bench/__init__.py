"""How fast, how large, how hungry a bundle is on this machine: `ecgedge bench`.

Nothing is imported here: two modules of this package are children of their own (`python -m ecgedge.bench.X`),
and what they import is what they measure.
"""
