"""The declaration of Parquet files to the registry."""

from mapix.registry import Format

__all__ = ["FORMAT"]

FORMAT = Format(
    name="parquet",
    title="a Parquet file, or a directory of them",
    open="mapix.arrow.opening:open_parquet",
    magic=((0, b"PAR1"),),
    suffixes=(".parquet",),
    detect="mapix.arrow.places:parquet_refusal",
    verify="mapix.arrow.opening:verify_parquet",
)
