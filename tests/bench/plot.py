"""Requests/s and tail latency of all servers against the number of clients."""

from matplotlib.figure import Figure

from tests.bench.contestants import HEAVY, OURS
from tests.bench.results import Results
from tests.bench.table import name
from training.plots import style

_KINDS = {OURS: "PNG"}  # of the servers that take several kinds, the one that is drawn


def figure(results: Results) -> Figure:
    """One line a server, dashed where it has two workers; single images alone."""
    drawn, (rates, tails) = style.panels(2)
    rows = [
        row
        for row in results.rows
        if row.images == 1
        and row.model != HEAVY
        and not row.note
        and row.generator_cpu_s
        and row.kind == _KINDS.get(row.server, row.kind)
    ]
    colours = dict(zip(dict.fromkeys(row.server for row in rows), style.COLOURS, strict=False))
    for server, processes in dict.fromkeys((row.server, row.processes) for row in rows):
        mine = [row for row in rows if (row.server, row.processes) == (server, processes)]
        clients, colour = [row.clients for row in mine], colours[server]
        dash = "-" if processes == 1 else "--"
        told = name(server, processes)
        answered = [row.requests_s for row in mine]
        rates.plot(clients, answered, dash, marker="o", color=colour, label=told)
        tails.plot(clients, [row.p99_ms for row in mine], dash, marker="o", color=colour)
    for axes in (rates, tails):
        axes.set_xscale("log", base=2)
        axes.set_xticks([1, 8, 32, 64], labels=["1", "8", "32", "64"])
        axes.set_xlabel("clients")
    rates.set_ylabel("requests/s, one image each")
    rates.set_ylim(bottom=0)
    tails.set_ylabel("p99, ms")
    tails.set_yscale("log")
    drawn.legend(ncols=4, loc="outside upper center", frameon=False)
    return drawn
