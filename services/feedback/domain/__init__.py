"""How pairings go, and the care for them: pure decisions.

``course`` is one pairing from its forming to the last of it; ``sessions`` its meetings, ``facts`` what can be said of
it without anybody's answers, ``checkins`` the private answers to ``questions``, ``advice`` what is said to the one who
answered, ``caring`` what follows from a change or the clock, ``figures`` what may be said of many, ``calendar`` days as
people live them, ``access`` who may do what, ``erasure`` forgetting somebody.
"""
