"""The command line: `soda-service demo | ingest | serve | cut | check`, a module for each.

Nothing heavy is imported before a command runs: `--help` needs neither numpy nor astropy.
Exit codes: 0 fine, 1 something failed, 2 wrong usage.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from soda_service import __version__
from soda_service.cli import check, cut, demo, ingest, serve
from soda_service.cli.wording import shown

app = typer.Typer(
    name="soda-service",
    help="Image cutouts for astronomy: SIA 2.0, DataLink 1.1 and SODA 1.0 over FITS files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; every error of ours is one line on standard error."""
    from soda_service.errors import ConfigurationError, SodaServiceError, UsageError

    try:
        app()
    except (ConfigurationError, UsageError) as error:
        print(f"soda-service: {error}", file=sys.stderr)  # noqa: T201 - this is a command line
        raise SystemExit(2) from None
    except SodaServiceError as error:
        path = getattr(error, "path", "")
        where = f"{shown(path)}: " if path else ""
        print(f"soda-service: {where}{error}", file=sys.stderr)  # noqa: T201 - the same
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        reason = _trouble_with_catalog(error)
        if reason is None:
            raise
        print(f"soda-service: {reason}", file=sys.stderr)  # noqa: T201 - the same
        raise SystemExit(1) from None


def _trouble_with_catalog(error: Exception) -> str | None:
    """What a person can do about an error of the catalog's file; None for any other error.

    A disk that is full, a file that may only be read: these come up at any statement.
    """
    from sqlalchemy.exc import OperationalError

    if not isinstance(error, OperationalError):
        return None
    return (
        f"the catalog cannot be read or written: {error.orig}; look at the rights of its file and "
        "folder, and at the room on its disk; what was done before stays done"
    )


@app.callback(invoke_without_command=True)
def _root(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(f"soda-service {__version__}")
        raise typer.Exit


for _command in (demo.demo, ingest.ingest, serve.serve):
    app.command()(_command)
app.command(cls=cut.CutCommand)(cut.cut)
app.command()(check.check)
