"""IEEE 11073 SDC: what providers say of their waveforms, what they send, and what ecgedge provides.

Over the library sdc11073 (extra `sdc`), of which its makers say that it is for tests and demonstration, not for medical
products; so is this. Research use only.
"""
