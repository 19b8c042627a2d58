"""Every SQL statement of the storage service, one module for each subject."""

from __future__ import annotations

from socle_storage.store.buckets import BucketChange, BucketList, Buckets
from socle_storage.store.inventory import Inventory, StoredObject, Unfinished
from socle_storage.store.listings import Listings, Page, Search
from socle_storage.store.losses import Losses, LostBlob, LostBlobs
from socle_storage.store.multipart import Multiparts, MultipartUpload
from socle_storage.store.objects import Draft, Move, Objects, Published
from socle_storage.store.resumable import Arrival, ResumableUpload, ResumableUploads, Seal

__all__ = [
    "Arrival",
    "BucketChange",
    "BucketList",
    "Draft",
    "LostBlob",
    "LostBlobs",
    "Move",
    "MultipartUpload",
    "Page",
    "Published",
    "ResumableUpload",
    "Seal",
    "Search",
    "Store",
    "StoredObject",
    "Unfinished",
]


class Store(Buckets, Objects, Listings, Losses, Inventory, ResumableUploads, Multiparts):
    """The statements, on one database."""
