"""The native kernels against plain numpy, on every path this machine can run."""
