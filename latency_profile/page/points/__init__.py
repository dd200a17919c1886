"""What the page shows of single points: figures, sentences and small tables, from a point's JSON and its records."""

from latency_profile.page.points.sections import point_sections

__all__ = ["point_sections"]
