"""The demo, ``mapix demo``: spectrograms and a segmented image, written, read and drawn."""
