"""The bedside page: a hub without I/O, a server over it, and who may see and do what there."""
