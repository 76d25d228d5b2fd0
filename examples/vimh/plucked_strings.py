"""Write sounds of plucked strings as WAV files, and their parameters as params.csv.

A string is a delay line of one period of noise; each turn smooths it, so that high harmonics fall
first (Karplus and Strong, 1983).
"""

from __future__ import annotations

import argparse
import csv
import wave
from pathlib import Path

import numpy as np

RATE, SECONDS = 16000, 0.5
NOTES = range(45, 82, 3)
DAMPING = (0.9, 0.95, 1.0)


def string(note: int, damping: float, rng: np.random.Generator) -> np.ndarray:
    """Return samples of a plucked string, float64 (n,) in -1..1."""
    period = round(RATE / (440 * 2 ** ((note - 69) / 12)))
    line = rng.uniform(-0.9, 0.9, period)
    turns = []
    for _ in range(-(-int(RATE * SECONDS) // period)):
        turns.append(line)
        line = damping * (line + np.roll(line, 1)) / 2
    return np.concatenate(turns)[: int(RATE * SECONDS)]


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=300)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with open(arguments.folder / "params.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "note_number", "damping", "sample_rate"])
        for k in range(arguments.count):
            note, damping = int(rng.choice(NOTES)), float(rng.choice(DAMPING))
            name = f"{k:05}.wav"
            with wave.open(str(arguments.folder / name), "wb") as out:
                out.setparams((1, 2, RATE, 0, "NONE", ""))
                out.writeframes(np.rint(string(note, damping, rng) * 32767).astype("<i2").tobytes())
            table.writerow([name, note, damping, RATE])


if __name__ == "__main__":
    main()
