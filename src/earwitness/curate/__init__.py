"""From raw labels to clips whose truth is known: pruning, checks, event times, people, twins, and lint.

Data goes one way: ``labels -> candidates -> checks -> people -> twins -> manifest``; a clip that is dropped keeps
its row, with the reason.
"""
