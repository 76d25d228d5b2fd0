"""What an installed wheel has to be able to do, run outside of the source tree."""

import tempfile
from pathlib import Path

import mapix
from mapix.viewer.server import static_files

record = bytes([2, 0, 3, 0, 1, 0]) + bytes(8) + bytes([1, 0, 77]) + bytes(range(6))
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "train"
    path.write_bytes(record * 5)
    ds = mapix.open(path)
    assert ds.images.shape == (5, 2, 3, 1), ds.images.shape
    assert ds[4].labels == {"param_0": 77}, ds[4].labels
    assert ds.batch([3, 1]).images.sum() == 2 * sum(range(6))
    assert "site-packages" in mapix.__file__, mapix.__file__
assert {"index.html", "main.js", "app.css"} <= set(static_files()), "the viewer's page"
print("an installed mapix opens, views and gathers")
