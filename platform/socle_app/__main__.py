"""`python -m socle_app` is the `socle` command."""

from __future__ import annotations

from socle_app.cli import main

if __name__ == "__main__":
    main()
