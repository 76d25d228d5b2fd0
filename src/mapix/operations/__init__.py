"""The implementation of rarely used operations of the contract, imported when they are called."""
