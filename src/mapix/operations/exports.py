"""A dataset as one array, for numpy and for other libraries: see ``mapix.Dataset``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.errors import UnsupportedError
from mapix.views import exported

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.dataset import Dataset

__all__ = ["array_of", "dlpack_of"]


def array_of(ds: Dataset[Any], dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
    """Return the images of all records, for ``np.asarray(ds)``: those of ``batch``, a copy."""
    if ds.image_shape is None:
        raise UnsupportedError(
            f"{ds.path}: {ds.RECORDS} of {ds.FAMILY} without a common shape are not one "
            "array: take ds[i], or ds.batch(...)"
        )
    if copy is False:
        raise ValueError(f"{ds.path}: {ds.RECORDS} as one array need a copy")
    return exported(ds.batch(np.arange(len(ds)), labels=None).images, dtype)


def dlpack_of(ds: Dataset[Any], *, copy: bool | None = None, **options: Any) -> Any:
    """Return the images of all records, for ``from_dlpack(ds)`` of other libraries: a copy."""
    if copy is False:
        raise BufferError(f"{ds.path}: {ds.RECORDS} for other libraries need a copy")
    found = np.asarray(ds)
    native = found.astype(found.dtype.newbyteorder("="), copy=False)
    return np.require(native, requirements="W").__dlpack__(**options)
