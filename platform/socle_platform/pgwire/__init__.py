"""Our own asyncio client of the PostgreSQL protocol 3.0: it pipelines, and parameters travel as text without a type.

dsn.py       where to connect: libpq URIs and key=value strings
messages.py  what we say, as bytes (pure)
protocol.py  what the server says: bytes in any portions → events (pure)
scram.py     SCRAM-SHA-256, RFC 5802 and 7677 (pure)
codec.py     Python values ↔ PostgreSQL's text forms (pure)
wire.py      one session over a socket: start-up, TLS, exchanges, prepared statements, COPY, cancellation
pool.py      sessions kept for reuse
block.py     a transaction block on one session

Source: PostgreSQL manual, chapter «Frontend/Backend Protocol».
"""
