"""Where a store is, as plain values that can be handed to another process."""

import msgspec

from latency_profile.storage import Store, open_bucket, open_url


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket and the folder in it, or a URL."""

    bucket: str | None = None
    prefix: str | None = None
    url: str = ""
    patience_s: float

    def open(self) -> Store:
        """Raises UsageError where it is no place, or takes a package or credentials that are not there."""
        if self.bucket is not None:
            return open_bucket(self.bucket, self.prefix, patience_s=self.patience_s)
        return open_url(self.url, patience_s=self.patience_s)
