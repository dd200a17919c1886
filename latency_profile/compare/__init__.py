"""Tonight's profile against earlier nights of the same fingerprint. Pure, but for `nights`, `nightly` and `command`.

A night is one number for each measure. How much nights differ is known only from nights: the thousands of requests
inside one tell nothing of it. So the unit is the run, all is done on logarithms, and a verdict needs several nights.
"""
