"""Decisions about people. Pure: time and ids are arguments, and nothing here waits for anything."""
