"""docs/results/peers.md."""

from __future__ import annotations

import datetime
import platform
import textwrap
from collections.abc import Mapping, Sequence

from benchmarks.peers.comparison import Comparison
from benchmarks.peers.measure import Measured

from thresher.console.formatting import pluralize

WIDTH = 100
HEADER = "| tool | CPU s | peak MB | time ratio | memory ratio | result |"


def page(
    found: Mapping[str, tuple[Comparison, int, Sequence[Measured]]], command: str, repeats: int
) -> str:
    """The whole page.

    Arguments:
        found: comparison -> itself, rows, and what was measured.
        command: what printed it.
        repeats: runs of each tool.
    """
    about = (
        f"{datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}, two "
        "CPU cores shared with other work. Written by"
    )
    rules = (
        "Each run is a process of its own, limited to one thread; it first processes a few rows, "
        "untimed. CPU s: of the job, children included, without imports, the fastest of "
        f"{pluralize(repeats, 'run')}, in turn. CPU time, because other work on the "
        "machine lengthened the elapsed time more than tenfold; it lengthens CPU time too, so that "
        "differences of a fifth mean nothing. Peak MB: memory of the whole process and its "
        "children, packages included. "
        "Ratios: the peer's over thresher's; above 1, thresher needs less, and what is below 1 is "
        "bold. Peers come from the package index, or are written from the published algorithm "
        "where the table says so. text-dedup and Data-Juicer are installed without packages that "
        "the measured parts do not import; torchvision, which imagededup needs for its CNN, is "
        "replaced by an empty module where it does not fit the installed torch."
    )
    lines = ["# thresher beside other packages", "", *_wrapped(about), "", f"    {command}", ""]
    lines += [*_wrapped(rules), "", *_wrapped(_summary(found))]
    for comparison, rows, measured in found.values():
        lines += ["", f"## {comparison.title}: {rows:,} rows", "", *_wrapped(comparison.job), ""]
        lines += [HEADER, "|---|---:|---:|---:|---:|---|"]
        lines += [_row(each, measured[0]) for each in measured]
        for peer, each in zip(comparison.peers, measured[1:], strict=True):
            if peer.why and each.good is not None:
                lines += ["", *_wrapped(f"{peer.name}: {peer.why}")]
    return "\n".join(lines) + "\n"


def _summary(found: Mapping[str, tuple[Comparison, int, Sequence[Measured]]]) -> str:
    """Which peers need less time than thresher, or could not be measured."""
    peers = [(each, measured[0]) for *_, measured in found.values() for each in measured[1:]]
    faster = [
        f"{each.tool} ({each.cpu / ours.cpu:.2f})"
        for each, ours in peers
        if each.good is not None and each.cpu < ours.cpu
    ]
    absent = [each.tool for each, _ in peers if each.good is None]
    text = f"Faster than thresher: {', '.join(faster) or 'none'}."
    return f"{text} Not measured: {', '.join(absent)}." if absent else text


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _row(each: Measured, ours: Measured) -> str:
    name = " ".join(filter(None, (each.tool, each.version)))
    if each.good is None:
        return f"| {name} | – | – | – | – | {each.text} |"
    cells = f"| {name} | {each.cpu:.2f} | {each.memory / 1e6:,.0f}"
    if each is ours:
        return f"{cells} | | | {each.text} |"
    time, memory = each.cpu / ours.cpu, each.memory / ours.memory
    text = each.text if each.good else f"{each.text} (not as good)"
    return f"{cells} | {ratio(time)} | {ratio(memory)} | {text} |"


def ratio(value: float) -> str:
    """With two digits; bold below 1."""
    text = f"{value:.2f}" if value < 10 else f"{value:.0f}"
    return f"**{text}**" if value < 1 else text


def unexplained(comparison: Comparison, measured: Sequence[Measured]) -> list[str]:
    """Peers that need less time than thresher for as good a result, where nothing says why.

    Arguments:
        comparison: with its peers.
        measured: thresher's, then that of each peer.
    """
    return [
        peer.name
        for peer, each in zip(comparison.peers, measured[1:], strict=True)
        if each.good and each.cpu < measured[0].cpu and not peer.why
    ]
