"""A made-up company of four hundred people: the HR file, the entries of each person, and a programme for them.

`python -m cli.sample.generate` writes `people.csv` and `wishes.json`, which are committed. None of these people exists.
All addresses end in `.example`, a domain that nobody can own.
"""
