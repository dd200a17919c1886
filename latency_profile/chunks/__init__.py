"""What a point has measured goes up while it runs: a pod that is taken away has some seconds, or none.

A process of low priority follows the senders' spools and stores what is new in parts, and with them what is needed to
make records of them: the plan, what was asked, the bodies. `latency-profile recover` does that, from a bucket or from
the folder in which a run was killed. The records of a finished point take the place of its parts.
"""
