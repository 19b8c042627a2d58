"""Counting rows inside a statement, in a setting of the transaction: what tells new rows from replaced ones.

An upsert cannot say in RETURNING which rows were new (views and partitions have no system columns). So each row that
enters counts up, and each one that turns out to be an update counts down again.
"""

from __future__ import annotations

_COUNTED = "nullif(current_setting('pgrst.inserted', true), '')::int"

ROWS_COUNTED = _COUNTED
"""The count so far, NULL when nothing was counted."""
COUNT_UP = f"set_config('pgrst.inserted', (coalesce({_COUNTED}, 0) + 1)::text, true) <> '0'"
"""A condition that is true, and counts one more each time it is evaluated."""
COUNT_DOWN = f"set_config('pgrst.inserted', (coalesce({_COUNTED}, 0) - 1)::text, true) <> '-1'"
"""A condition that is true, and counts one less each time it is evaluated."""
