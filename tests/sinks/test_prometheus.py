"""The page and the rules before the real promtool and a real Prometheus."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ctid.acd.rules import QueueRule
from ctid.sinks.metrics import MetricsSink
from lab import debian
from tests.fakes_facts import abandoned_call, answered_call, transferred

CONFIG = Path(__file__).parents[2] / "config" / "prometheus"


def promtool(*words: str, page: bytes | None = None) -> None:
    """Run promtool; what it complains about fails the test."""
    done = subprocess.run(
        [debian.program("tools", "promtool"), *words], input=page, capture_output=True, cwd=CONFIG, timeout=60
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert not done.stderr or b"SUCCESS" in done.stdout, done.stderr.decode()


async def busy() -> MetricsSink:
    """A sink that has seen something of everything."""
    metrics = MetricsSink(
        {"repair": QueueRule(), "complaint": QueueRule()}, teams={"201": "a", "202": None}, version="0"
    )
    await metrics.write([*answered_call(1), *abandoned_call(8), transferred(1)])
    metrics.ami_event("Newchannel", 5)
    metrics.ami_connected(True)
    metrics.agi_request("route", "decided", 0.002)
    metrics.pop_delivery("browser", "acknowledged", 0.02)
    metrics.watch_outbox("journal", lambda: 0)
    return metrics


async def test_the_page_follows_the_conventions() -> None:
    metrics = await busy()
    promtool("check", "metrics", page=metrics.render())
    empty = MetricsSink({"repair": QueueRule()}, teams={})
    promtool("check", "metrics", page=empty.render())


def test_the_rules_are_right_and_do_what_they_say() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "ctid.rules.yml")
    promtool("test", "rules", "ctid.rules.test.yml")


async def test_the_rules_ask_for_what_the_page_has() -> None:
    page = (await busy()).render().decode()
    there = set(re.findall(r"^(ctid_\w+)[ {]", page, re.MULTILINE))
    asked = set(re.findall(r"\bctid_\w+", (CONFIG / "ctid.rules.yml").read_text(encoding="utf-8")))
    groups = {"ctid_service_level", "ctid_queues", "ctid_health"}
    assert asked - groups <= there


@contextmanager
def serving(metrics: MetricsSink) -> Iterator[int]:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = metrics.render()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[int]:
    """Run a real Prometheus on our own example, scraping ``target`` twice a second."""
    for file in CONFIG.glob("*.yml"):
        shutil.copy(file, folder)
    config = folder / "prometheus.yml"
    text = config.read_text(encoding="utf-8")
    assert "127.0.0.1:9482" in text
    config.write_text(text.replace("127.0.0.1:9482", f"127.0.0.1:{target}").replace("15s", "500ms"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            [
                debian.program("tools", "prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield port
        finally:
            running.terminate()
            running.wait(30)


def query(port: int, text: str) -> list[Any]:
    address = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': text})}"
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return list(json.load(answer)["data"]["result"])
    except OSError:
        return []


@pytest.mark.timeout(90)
async def test_a_real_prometheus_scrapes_it(tmp_path: Path) -> None:
    metrics = await busy()
    asked = {
        'ctid_calls_finished_total{queue="repair",result="answered"}': "1",
        'up{job="ctid"}': "1",
        'ctid_agent_ring_cycles_bucket{queue="repair",result="answered",le="3.0"}': "1",
        "ctid:service_level_burn:max{queue='complaint'}": "5.000000000000001",
    }
    with serving(metrics) as target, prometheus(tmp_path, target) as port:
        until = time.monotonic() + 60
        found: dict[str, str] = {}
        while found != asked and time.monotonic() < until and "Error parsing" not in _said(tmp_path):
            time.sleep(0.3)
            answers = {text: query(port, text) for text in asked}
            found = {text: answer[0]["value"][1] for text, answer in answers.items() if answer}
        assert found == asked, _said(tmp_path)
        assert query(port, "scrape_samples_scraped{job='ctid'}")[0]["value"][1] == str(
            sum(1 for line in metrics.render().decode().splitlines() if not line.startswith("#"))
        )


def _said(folder: Path) -> str:
    return (folder / "log").read_text(errors="replace")
