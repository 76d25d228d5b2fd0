"""Drop-in classes for programs that were written against a format's own library.

Each module names the library that it stands for, and every difference from it.
"""
