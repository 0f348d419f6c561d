"""Engines that are built ahead of time; each stands in a bundle beside the ONNX file that it was built from."""
