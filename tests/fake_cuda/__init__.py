"""Whole steps on a CUDA device that does not exist.

PyTorch's fake tensors have shapes, dtypes and devices, but no values. On a CPU build they need a device guard, which `device.cpp`
registers. A tensor on the wrong device raises an error, and `observer` counts each place where a GPU would wait. Kernels, memory,
values and the rules of graph capture need a real GPU.
"""
