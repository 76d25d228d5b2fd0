"""A kernel that copies records into batches, and the calls of the CUDA driver that launch it."""
