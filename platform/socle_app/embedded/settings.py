"""The server's settings, sized to the machine (measurements: embedded-postgres.md §3)."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Literal, TypeAlias

Profile: TypeAlias = Literal["auto", "small", "normal", "test"]

MIB = 1024 * 1024
SMALL_BELOW = 1536 * MIB
UNKNOWN_MEMORY = 2048 * MIB


def machine_memory(root: Path = Path("/")) -> int:
    """Bytes of memory this process may use: the machine's, or its control group's limit if that is less."""
    limits = [_meminfo(root / "proc/meminfo"), *(_limit(root / path) for path in _limit_files(root))]
    known = [limit for limit in limits if limit]
    return min(known, default=UNKNOWN_MEMORY)


def plan_settings(profile: Profile, memory: int) -> dict[str, str]:
    """The server settings of a profile for `memory` bytes. `auto` is small or normal by memory."""
    if profile == "auto":
        profile = "small" if memory < SMALL_BELOW else "normal"
    return {
        **_EVERYWHERE,
        **recovery_settings(os.uname().release),
        **({"small": _SMALL, "normal": _normal(memory), "test": _TEST}[profile]),
    }


def recovery_settings(kernel: str) -> dict[str, str]:
    """After a crash, one system call for all files instead of one each (1.7 s of a restart); Linux 5.8 tells errors."""
    found = re.match(r"(\d+)\.(\d+)", kernel)
    able = sys.platform == "linux" and found is not None and (int(found[1]), int(found[2])) >= (5, 8)
    return {"recovery_init_sync_method": "syncfs"} if able else {}


_EVERYWHERE = {
    "wal_level": "logical",
    "max_replication_slots": "10",
    "max_slot_wal_keep_size": "4GB",  # a forgotten slot must not fill the disk
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.max": "2000",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_checkpoints": "off",
    "effective_cache_size": "128MB",  # and no other planner setting: plans read as those of the official local stack
    "client_connection_check_interval": "5s",  # a statement nobody waits for ends
}

_SMALL = {
    "shared_buffers": "32MB",
    "maintenance_work_mem": "32MB",
    "io_method": "sync",
    "max_connections": "40",
    "max_worker_processes": "4",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "max_wal_senders": "6",
    "wal_buffers": "512kB",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
}

_TEST = {
    **_SMALL,
    "shared_buffers": "64MB",
    "max_connections": "100",
    "max_wal_senders": "10",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "4GB",
}


def _normal(memory: int) -> dict[str, str]:
    return {
        "shared_buffers": _megabytes(memory // 16, 64, 256),
        "maintenance_work_mem": _megabytes(memory // 32, 32, 256),
        "io_method": "worker",
        "io_workers": "2",
        "max_connections": "100",
        "max_worker_processes": "8",
        "max_wal_senders": "10",
        "wal_buffers": "1MB",
        "min_wal_size": "64MB",
        "max_wal_size": "1GB",
    }


def _megabytes(size: int, least: int, most: int) -> str:
    return f"{max(least, min(most, size // MIB))}MB"


def _meminfo(path: Path) -> int | None:
    for line in _lines(path):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _limit_files(root: Path) -> list[str]:
    """Control group version 2 and 1, for our own group and for the root a container sees."""
    files = ["sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"]
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, group = line.split(":", 2)
        if number == "0":
            files.append(f"sys/fs/cgroup{group}/memory.max")
        elif "memory" in controllers.split(","):
            files.append(f"sys/fs/cgroup/memory{group}/memory.limit_in_bytes")
    return files


def _limit(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
