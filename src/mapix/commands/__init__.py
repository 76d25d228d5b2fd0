"""The command line: one module per command, and the table of them in ``catalogue``.

``program`` finds and runs a command; ``arguments`` has the options that commands share, ``output``
what they print.  A command's module is imported when the command is called.
"""
