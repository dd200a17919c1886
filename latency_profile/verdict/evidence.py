"""What the rules look at: a point's records, and which of its requests they are about."""

from dataclasses import dataclass

from latency_profile import measures
from latency_profile.measures import Rows, Window
from latency_profile.records import Records
from latency_profile.server_view.structure import Reconciliation


@dataclass(frozen=True, slots=True)
class Evidence:
    records: Records
    rows: Rows  # of the model in question, or all
    span: Window  # of all models
    both: Reconciliation | None = None  # this client's view of the server and the server's own

    @property
    def measured(self) -> Rows:
        """Those of them that arrived in the window."""
        return self.rows & self.span.rows


def evidence(records: Records, model: str | None = None, both: Reconciliation | None = None) -> Evidence:
    rows = measures.all_rows(records) if model is None else measures.rows_of_model(records, model)
    return Evidence(records, rows, measures.window(records), both)
