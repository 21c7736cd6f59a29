"""Array checks at the border to C++: a wrong dtype, rank or layout is a ValueError that begins with the name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def checked(name: str, array: NDArray[Any], dtype: DTypeLike, ndim: int) -> NDArray[Any]:
    """The same array, if C++ can read it in place.

    Raises:
        ValueError: not an array of this dtype and number of dimensions, contiguous in row order.
    """
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != ndim:
        found = f"{array.ndim}-d {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{name}: is {found} where a {ndim}-d array of {np.dtype(dtype)} is needed")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name}: must be contiguous in row order")
    return array


def checked_or_none(
    name: str, array: NDArray[Any] | None, dtype: DTypeLike, ndim: int
) -> NDArray[Any] | None:
    """`checked`, letting None through."""
    return None if array is None else checked(name, array, dtype, ndim)
