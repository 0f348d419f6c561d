"""From a training run to a bundle: fold, export, quantize, compare, build engines, pack (`pack.export_run`)."""
