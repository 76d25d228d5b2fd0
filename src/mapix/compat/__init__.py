"""Drop-in classes for programs that were written against the own library of a format.

Each module names the library that it replaces, and lists every difference from it.
"""
