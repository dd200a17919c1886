"""`--find-capacity`: the highest steady rate that keeps the objectives, with an interval, in few probes. Pure."""
