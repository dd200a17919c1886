"""`--until-ci 5%`: a point runs until its percentiles are known to that, or says by when they would have been.

`precision` says how well they are known: a pure function of samples, for the looks and for the results alike. `tail`
follows the spools of a running point; `follow` is the loop of a process that does so and looks: `__main__` is one,
that of `capacity` another; `watch` is the parent's side.

What a look sees decides only when sending ends. What the results say of the percentiles comes from the records, as
always, so a look may be coarse and late: the intervals hold at any moment, whoever chose it and why.
"""
