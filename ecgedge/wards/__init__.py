"""The ward as a service: many beds in one process, their files, their control socket, and the loop that owns the clock."""
