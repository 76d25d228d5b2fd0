"""The measures of compare.py, and how they are taken and printed."""
