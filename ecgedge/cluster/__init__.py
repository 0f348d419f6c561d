"""Beds beyond one machine: fed by a bus that remembers, placed on nodes by hashing, moved when a node dies."""
