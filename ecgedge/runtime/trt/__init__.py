"""TensorRT and TensorRT-RTX: engines built in a child process, their layer reports, and the runner.

`api` holds what differs between the versions, `cuda` what a device has instead of torch; nothing here is imported
before an engine is built or opened.
"""
