"""Many tensors, one call: kernels, the threads that run them, norms."""
