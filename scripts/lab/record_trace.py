"""Plays one scene on the private Asterisk and keeps the raw AMI stream as a test.

    python -m lab.record_trace one_ring --asterisk 16

The format is that of ``ctid.replay``: ``## +t`` (seconds), then one message; ``####`` begins a
note. All numbers and names in it are made up anyway.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from lab.errors import LabError
from lab.places import HOME, ROOT
from lab.scenes import SCENES, Figure
from lab.spy import Spy
from lab.stage import Stage

SETTLE = 1.5
"""Seconds after the scene in which Asterisk says the last about it."""


class Recorder(Spy):
    """Notes when each part of the stream arrived."""

    def cut(self) -> list[tuple[float, bytes]]:
        """Return (seconds, message) for every whole message, in order."""
        found = []
        position = 0
        while (end := self.stream.find(b"\r\n\r\n", position)) >= 0:
            when = next(at for size, at in self.arrivals if size >= end + 4)
            found.append((when - self.began, bytes(self.stream[position:end])))
            position = end + 4
        return found


def text_of(recorder: Recorder, queue_log: str, *, scene: str, version: int, figures: list[Figure]) -> str:
    """Write the trace."""
    summary = (SCENES[scene].__doc__ or "").strip()
    parts = [f"#### scene {scene} on Asterisk {version}: {summary}\n"]
    for seconds, message in recorder.cut():
        if message.startswith((b"Event: ", b"Response: ")):
            body = message.decode("utf-8", "replace").replace("\r\n", "\n")
            parts.append(f"## +{seconds:.3f}\n{body}\n\n")
    parts += [
        f"#### phones: {it.measure} {it.agent or it.queue} "
        f"{it.seen if isinstance(it.seen, str) else format(it.seen, '.3f')}\n"
        for it in figures
    ]
    parts += ["\n#### queue_log lines\n", *(f"#### {line}\n" for line in queue_log.splitlines())]
    return "".join(parts)


async def record(scene: str, version: int, target: Path) -> None:
    """Play and write.

    Raises:
        LabError: Something of the stage does not start.
    """
    with tempfile.TemporaryDirectory(prefix="trace-", dir=HOME) as folder:
        async with Stage(Path(folder), version=version, report=_say) as stage:
            known = stage.exchange.queue_log.read_text() if stage.exchange.queue_log.exists() else ""
            async with Recorder(stage.exchange) as recorder:
                await asyncio.sleep(0.3)
                recorder.begin()
                _say(f"playing {scene}")
                figures = await SCENES[scene](stage)
                await asyncio.sleep(SETTLE)
                queue_log = stage.exchange.queue_log.read_text()[len(known) :]
                text = text_of(recorder, queue_log, scene=scene, version=version, figures=figures)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    _say(f"{text.count(chr(10) + '## +') + 1} messages in {target}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run from the command line."""
    assert __doc__
    parser = argparse.ArgumentParser(prog="scripts/record-trace", description=__doc__.split("\n")[0])
    parser.add_argument("scene", choices=sorted(SCENES))
    parser.add_argument("--asterisk", type=int, choices=(22, 16), default=22)
    parser.add_argument("--to", type=Path, help="file; by default tests/traces/VERSION/SCENE.txt")
    arguments = parser.parse_args()
    folder = ROOT / "tests" / "traces" / str(arguments.asterisk)
    try:
        began = time.monotonic()
        asyncio.run(
            record(arguments.scene, arguments.asterisk, arguments.to or folder / f"{arguments.scene}.txt")
        )
        _say(f"{time.monotonic() - began:.1f} s")
    except LabError as error:
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
