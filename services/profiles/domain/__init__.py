"""Decisions about people. Pure: time and ids are arguments, and no function does any I/O."""
