"""The ward as a service: many beds in one process, with their files, their control socket and the wall clock."""
