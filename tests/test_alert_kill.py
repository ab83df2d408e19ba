"""Senders that are killed at any moment: no alert is lost, and one is doubled only where a kill fell."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from config.home import PROJECT_ROOT
from monitoring.deliveries import Outbox
from monitoring.store import Store
from tests.alerting import NOON, alerting, channel, drift, incidents_of
from tests.receivers import Webhook, webhook
from tests.states import environment_of

pytestmark = pytest.mark.integration
HOOK = channel("hook", url_env="HOOK_URL")
SETTINGS = alerting(HOOK, attempts=100, escalate_after_hours=None)
#: Sends until it is killed, or nothing is due; argument: hours after noon, so that the claims of those before are over.
SENDER = """
import sys
from datetime import timedelta
from monitoring.alert_delivery import AlertDelivery
from monitoring.store import Store
from tests.test_alert_kill import NOON, SETTINGS
with Store(sys.argv[1]) as store:
    delivery = AlertDelivery(SETTINGS, store, lambda: NOON + timedelta(hours=float(sys.argv[2])))
    delivery.look()
    delivery.wait()
"""


def start_sender(home: Path, url: str, hour: int, address: str) -> subprocess.Popen[bytes]:
    environment = environment_of(home, HOOK_URL=address) | {"PYTHONPATH": str(PROJECT_ROOT)}
    return subprocess.Popen([sys.executable, "-c", SENDER, url, str(hour)], env=environment, cwd=PROJECT_ROOT)


def test_no_alert_is_lost_when_senders_are_killed(store: Store, store_url: str, tmp_path: Path, soak: bool) -> None:
    alerts, kills, dice = (40, 30, random.Random(5)) if soak else (8, 4, random.Random(5))
    with webhook() as hook:
        for number in range(alerts):
            incidents_of(store, SETTINGS).report(drift(subject=str(number), cause=f"cause {number}."), NOON)
        outbox = Outbox(store, SETTINGS.alerts)
        for hour in range(kills):
            kill_after_one_more(hook, start_sender(tmp_path, store_url, hour + 1, hook.url), dice)
        last = start_sender(tmp_path, store_url, kills + 2, hook.url)
        assert last.wait(120) == 0
        received = Counter(str(one["message"]).partition(".")[0] for one in hook.received)
        assert outbox.counts() == {"waiting": 0, "sent": alerts, "failed": 0}
    assert set(received) == {f"cause {number}" for number in range(alerts)}
    assert alerts <= sum(received.values()) <= alerts + kills


def kill_after_one_more(hook: Webhook, sender: subprocess.Popen[bytes], dice: random.Random) -> None:
    """While it sends the next one, or notes that it has sent this one."""
    before, deadline = len(hook.received), time.monotonic() + 60
    while len(hook.received) == before and sender.poll() is None:
        assert time.monotonic() < deadline, "no alert was sent"
        time.sleep(0.01)
    time.sleep(dice.uniform(0.0, 0.5))
    sender.send_signal(signal.SIGKILL)
    sender.wait()
