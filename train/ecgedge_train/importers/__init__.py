"""Readers of published weights: a file of another library in, one of our encoders out; nothing is unpickled."""
