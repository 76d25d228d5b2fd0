"""The declaration of Parquet files to the registry."""

from mapix.registry import Format

__all__ = ["FORMAT"]

FORMAT = Format(
    name="parquet",
    title="a Parquet file",
    open="mapix.arrow.dataset:open_parquet",
    magic=((0, b"PAR1"),),
    suffixes=(".parquet",),
)
