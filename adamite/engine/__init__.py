"""Many tensors, one call: batches, coefficients, kernels, the threads that run them, norms."""
