"""How the servers answer, from what is in the store: opens and closes the incidents of errors and of latency."""

from __future__ import annotations

from datetime import datetime, timedelta

from config.settings import Settings
from monitoring.alerts import Alerts
from monitoring.monitors import Monitor, monitor_for
from monitoring.server_hours import server_requests
from monitoring.serving_rules import LEAST_REQUESTS, ServingFigures, settle_serving
from monitoring.store import Store
from monitoring.window_records import hour_start, served_altogether

#: A look goes further back while it has seen fewer requests than are worth judging, but not beyond this.
MOST_WINDOW = timedelta(hours=24)


def check_serving(settings: Settings, store: Store, alerts: Alerts, now: datetime) -> ServingFigures:
    """Judges the stretch since the last look, by the monitor of serving, and returns its figures.

    The incidents are of the server and not of a version: whichever versions answer, a client that is refused is not
    served.
    """
    monitor = monitor_for(store, settings, "serving", settings.registered_model_name, None)
    figures = serving_figures(store, monitor, now)
    settle_serving(alerts, figures, monitor, now)
    return figures


def serving_figures(store: Store, monitor: Monitor, now: datetime) -> ServingFigures:
    """Of the whole hours that touch the last `frequency_hours` of the monitor, and of hours before those while all
    together hold fewer than `LEAST_REQUESTS` requests, `MOST_WINDOW` back at most.

    Without any line of use there are no requests, and so no verdict.
    """
    least = timedelta(hours=monitor.frequency_hours or 0.0)
    since = hour_start(now - least)
    requests = errors = 0
    for found in server_requests(store, now - max(least, MOST_WINDOW), now):
        if found.hour < since and requests >= LEAST_REQUESTS:
            break
        since = min(since, found.hour)
        requests, errors = requests + found.requests, errors + found.errors
    served = served_altogether(store, since, now)
    return ServingFigures(requests=requests, errors=errors, p95_ms=served.p95_latency_ms if served else None)
