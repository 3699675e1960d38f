"""A whole story on real servers: a company joins, a round runs, people answer, pairings form, another system listens.

`python -m cli.demo`. The people in it act through HTTP, each with a token of their own, and answer by preferences that
only they know. What is counted at the end is counted twice: by asking the services, and by an independent subscriber.
"""
