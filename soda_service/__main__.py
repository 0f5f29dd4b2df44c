"""`python -m soda_service` and `soda-service`: the command line.

Loading it takes a moment, and whoever stops it then wants no traceback.
"""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    try:
        from soda_service.cli import main as run  # may be interrupted
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
