"""A real Prometheus scrapes the daemon with the rules that we ship."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lab import debian
from lab.daemon import free_port
from lab.places import ROOT
from lab.stage import Stage

pytestmark = pytest.mark.timeout(60, func_only=True)

RULES = sorted((ROOT / "config" / "prometheus").glob("*.rules.yml"))


async def test_promtool_likes_the_live_text(centre: Stage) -> None:
    text = await centre.daemon.metrics()
    promtool = debian.program("tools", "promtool")
    done = await asyncio.to_thread(
        subprocess.run,
        [promtool, "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


async def test_prometheus_scrapes_and_loads_the_rules(centre: Stage, tmp_path: Path) -> None:
    assert RULES, "config/prometheus holds no rules"
    port = free_port()
    files = "".join(f"  - {file}\n" for file in RULES)
    (tmp_path / "prometheus.yml").write_text(
        f"global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files:\n{files}"
        "scrape_configs:\n  - job_name: ctid\n    static_configs:\n"
        f"      - targets: ['127.0.0.1:{centre.daemon.metrics_port}']\n"
    )
    with (tmp_path / "log").open("wb") as log:
        prometheus = subprocess.Popen(
            [
                debian.program("tools", "prometheus"),
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
            cwd=tmp_path,
        )
        try:
            await scraped(f"http://127.0.0.1:{port}", tmp_path / "log")
        finally:
            prometheus.terminate()
            await asyncio.to_thread(prometheus.wait, 20)


async def scraped(address: str, log: Path) -> None:
    """Wait until the target is up; then every rule must be healthy and evaluated."""
    async with aiohttp.ClientSession(address) as session:

        async def ask(path: str, **query: str) -> Any:
            async with session.get(f"/api/v1/{path}", params=query) as response:
                return (await response.json())["data"]

        for _ in range(100):
            await asyncio.sleep(0.2)
            try:
                up = await ask("query", query="up{job='ctid'}")
            except aiohttp.ClientError:
                continue
            if up["result"] and up["result"][0]["value"][1] == "1":
                break
        else:
            pytest.fail(log.read_text()[-2000:])
        await asyncio.sleep(1.5)
        rules = [rule for group in (await ask("rules"))["groups"] for rule in group["rules"]]
        assert rules
        assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
        info = await ask("query", query="ctid_build_info")
        assert info["result"], "ctid_build_info is not there"
