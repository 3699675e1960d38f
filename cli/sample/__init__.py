"""A made-up company of four hundred people: the HR file, what each would enter, and a programme for them.

`people.csv` and `wishes.json` are written by `python -m cli.sample.generate` and committed. Nobody in them exists; all
addresses end in `.example`, which can never be anyone's.
"""
