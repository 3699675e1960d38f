"""How pairings go, and the help they get. Pure decisions without input or output.

``followup`` is one pairing from its formation to the deletion of its data. ``sessions`` holds its meetings, ``facts``
what is known without anybody's answers, ``checkins`` the private answers to ``questions``, and ``advice`` what a person
reads after their own answers. ``followup_rules`` applies what follows from a change or from the clock.
``anonymous_statistics`` computes statistics over many people. ``calendar`` counts days, ``access_policy`` says who may
do what, and ``colleague`` is the part of a profile that this service stores.
"""
