"""The demo: a small synthesiser's spectrograms as VIMH datasets, read by mapix and the usual way.

``python -m mapix demo`` runs it.  The parts can be used by themselves: ``mapix.demo.data`` makes
datasets whose labels are true to the pictures, without a network and in a few seconds.
"""
