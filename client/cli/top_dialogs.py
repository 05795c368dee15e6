"""What `pluginctl top` asks and explains in front of the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from client.cli.top_text import safe

if TYPE_CHECKING:
    from textual.events import Key

    from supervisor.wire.results import JobInfo

_T = TypeVar("_T")
_CSS = """
{name} {{ align: center middle; background: ansi_default; }}
{name} > Vertical {{
    width: auto; min-width: 40; max-width: 90%; height: auto; max-height: 90%;
    border: round ansi_default; padding: 0 1; background: ansi_default; color: ansi_default;
}}
{name} Static {{ width: auto; max-width: 100%; background: ansi_default; color: ansi_default; }}
"""
HELP = """\
↑ ↓ j k PgUp PgDn Home End   move in the pane with ▶
Tab, Shift-Tab, 1 2 3 4      next pane, the one before, one of them
z                            the pane alone, and back
r                            restart the worker of the plugin
s                            stop the worker, or start it
d                            disable the plugin, or enable it
x                            run one of its jobs
/                            only what contains a text; Esc: all
o, O                         sort by something else; the other way
p                            pause the screen, and go on
q                            quit

Changes are asked about once. The log is that of the chosen plugin."""


class _Dialog(ModalScreen[_T]):
    def end(self, result: _T | None = None) -> None:
        """Two keys may come before the first one's end is seen: the second is nobody's."""
        if self.is_current:
            self.dismiss(result)

    def action_end(self, result: _T | None) -> None:
        self.end(result)


class Question(_Dialog[bool]):
    """Yes or no."""

    DEFAULT_CSS = _CSS.format(name="Question")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "end(True)"),
        Binding("n,escape,q", "end(False)"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(self._question))
            yield Static(Text("y yes   n no", style="bold"))


class JobChoice(_Dialog["str | None"]):
    """One of a plugin's jobs, by its name."""

    DEFAULT_CSS = (
        _CSS.format(name="JobChoice")
        + """
        JobChoice OptionList {
            width: auto; min-width: 40; max-width: 100%; height: auto; max-height: 15; border: none; padding: 0;
            background: ansi_default; color: ansi_default;
        }
        JobChoice OptionList:focus { border: none; background: ansi_default; }
        JobChoice OptionList > .option-list--option-highlighted {
            text-style: reverse; background: ansi_default; color: ansi_default;
        }
        """
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,n,q", "end(None)")]

    def __init__(self, plugin: str, jobs: Sequence[JobInfo]) -> None:
        super().__init__()
        self._plugin = plugin
        self._jobs = jobs

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(f"Which job of {safe(self._plugin)} is to run now?", style="bold"))
            yield OptionList(*[Option(Text(_told(job), no_wrap=True)) for job in self._jobs], markup=False)
            yield Static(Text("Enter run it   Esc none", style="bold"))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.end(self._jobs[event.option_index]["job"])


class Help(_Dialog[None]):
    """The keys; any key ends it."""

    DEFAULT_CSS = _CSS.format(name="Help")

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(HELP))

    def on_key(self, event: Key) -> None:
        event.stop()
        self.end()


def _told(job: JobInfo) -> str:
    busy = f", {job['running']} under way" if job["running"] else ""
    paused = ", paused" if job["held_by"] else ""
    return f"{safe(job['key'])}  ({safe(job['schedule'] or 'by hand')}{paused}{busy})"
