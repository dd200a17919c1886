"""`latency-profile export`: measured points in the forms of other tools. It picks, names and lays out; it measures and
estimates nothing, but what a form defines otherwise than the results do: that it counts from the records."""
