"""Progress bars."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int | None, str], None]]:
    """A progress bar on standard error, and the function that moves it (done, total, name).

    It is there from the first move on, and full when all is done: what was skipped is done, too.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=15, justify="right")),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        # Names change in length all the time: the bar must not.
        TextColumn(
            "{task.fields[current]}", markup=False, table_column=Column(no_wrap=True, ratio=1)
        ),
    )
    with Progress(*columns, console=Console(stderr=True), expand=True) as bar:
        task = bar.add_task(title, total=None, current="", visible=False)

        def advance(done: int, total: int | None, current: str) -> None:
            name = current.rpartition("/")[2]
            bar.update(task, completed=done, total=total, current=name, visible=True)

        yield advance
        end = max(bar.tasks[0].completed, bar.tasks[0].total or 0)
        bar.update(task, completed=end, total=end, current="")
