"""One record at a time, in random order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def test_image_and_label_bytes(benchmark: Any, ds: Any, rows: Callable[[], int]) -> None:
    """Two views through a record."""

    def get() -> Any:
        record = ds[rows()]
        return record.image, record.label_bytes

    benchmark(get)


def test_record(benchmark: Any, ds: Any, rows: Callable[[], int]) -> None:
    """The record alone."""
    benchmark(lambda: ds[rows()])


def test_labels(benchmark: Any, ds: Any, rows: Callable[[], int]) -> None:
    """Labels by name."""
    benchmark(lambda: ds[rows()].labels)


def test_images(benchmark: Any, ds: Any, rows: Callable[[], int]) -> None:
    """The array of all images."""
    if not ds.uniform:
        pytest.skip("a mixed file is no array")
    images = ds.images
    benchmark(lambda: images[rows()])


def test_images_and_label_bytes(benchmark: Any, ds: Any, rows: Callable[[], int]) -> None:
    """Both arrays."""
    if not ds.uniform:
        pytest.skip("a mixed file is no array")
    images, labels = ds.images, ds.label_bytes

    def get() -> Any:
        i = rows()
        return images[i], labels[i]

    benchmark(get)
