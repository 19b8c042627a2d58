"""Every SQL statement of the storage service, one module for each subject."""

from __future__ import annotations

from socle_storage.store.buckets import BucketChange, BucketList, Buckets
from socle_storage.store.listings import Listings, Page, Search
from socle_storage.store.losses import Losses, LostBlob, LostBlobs
from socle_storage.store.objects import Draft, Move, Objects

__all__ = [
    "BucketChange",
    "BucketList",
    "Draft",
    "LostBlob",
    "LostBlobs",
    "Move",
    "Page",
    "Search",
    "Store",
]


class Store(Buckets, Objects, Listings, Losses):
    """The statements, on one database."""
