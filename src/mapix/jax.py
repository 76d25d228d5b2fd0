"""Register ``mapix.Batch`` with JAX, so that ``jax.device_put(batch)`` moves all of its arrays.

>>> import mapix.jax                                                         # doctest: +SKIP
>>> for batch in mapix.Loader(ds, 256, copy=True):                           # doctest: +SKIP
...     step(jax.device_put(batch))

``copy=True`` is needed: JAX copies to a device after ``device_put`` has returned, and on a CPU it
may use the memory of the batch itself, which a loader without it overwrites.
"""

from __future__ import annotations

import jax

from mapix.batch import Batch

__all__: list[str] = []

jax.tree_util.register_pytree_node_class(Batch)
