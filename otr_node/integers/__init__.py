"""The portable lane's operations in integers: packed weights, compiled kernels and their twins.

``kernels`` are loops that numba compiles, ``twins`` the same operations in NumPy alone; which of
the two runs, and by which product of matrices, is decided by tests in the running process
(``forms``), never by what a processor says of itself. Both give the same bits.
"""
