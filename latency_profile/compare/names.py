"""The names of what is compared, without what it takes to compare: settings need no more."""

AUTO = "auto"
LATEST, ALL = "latest", "all"  # which earlier nights are the base: see `history`
NAMES = (
    *(AUTO, "highest_completed_rate", "output_tokens_per_s", "requests_per_s"),
    *("ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99", "e2e_p50", "e2e_p99", "usd_per_million_output_tokens"),
)
MARGIN = 0.05
PLACES = f"{LATEST}, {ALL}, a folder, or a URL such as gs://bucket/folder"
_MONTH, _DAY = "(0[1-9]|1[0-2])", "(0[1-9]|[12][0-9]|3[01])"
DATE = rf"\d{{4}}-{_MONTH}-{_DAY}|\d{{4}}{_MONTH}{_DAY}(-\d{{6}})?"
