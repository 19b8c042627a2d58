"""Our own asyncio client of the PostgreSQL protocol 3.0: it pipelines, and parameters travel as text without a type.

dsn.py       where to connect: libpq URIs and key=value strings
messages.py  what we say, as bytes (pure)
protocol.py  what the server says: bytes in any portions → events (pure)
scram.py     SCRAM-SHA-256, RFC 5802 and 7677 (pure)
codec.py     Python values ↔ PostgreSQL's text forms (pure)
wire.py      one session: exchanges, prepared statements
connect.py   opens sessions (addresses, TLS, authentication) and cancels what they run
pool.py      sessions kept for reuse
block.py     a transaction block on one session
stream.py    a result in portions
copying.py   COPY to us, and the replication stream
inbox.py     events one by one, for start-up and COPY

Source: PostgreSQL manual, chapter «Frontend/Backend Protocol».
"""
