"""The demo, on real servers: a company joins, rounds run, people answer, pairings form, another system subscribes.

Start it with `python -m cli.demo`. The simulated people act over HTTP, each with their own token, and decide by
preferences that only they know. The final figures are counted twice: in the databases, and by an independent
subscriber.
"""
