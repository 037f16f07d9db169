"""Small bridges between parts that do not know each other."""

from __future__ import annotations

import structlog

from ctid.ami.actions import MessageSend
from ctid.ami.client import AmiLink
from ctid.sinks.metrics import MetricsSink

_log = structlog.get_logger()


class LinkFigures:
    """What happens on the AMI link, as figures and, where people should know, log lines."""

    def __init__(self, metrics: MetricsSink) -> None:
        self._metrics = metrics
        self.event = metrics.ami_event
        self.gap = metrics.ami_gap
        self.undecodable = metrics.ami_undecodable
        self.lag = metrics.ami_lag
        self.connected = metrics.ami_connected
        self.disconnected = metrics.ami_disconnected
        self.action = metrics.ami_action

    def quarantined(self, reason: str) -> None:
        """An event was not believed: somebody may be forging them."""
        self._metrics.ami_quarantined(reason)
        _log.warning("AMI event not believed", reason=reason)


class SipTexts:
    """Texts to SIP phones, through Asterisk."""

    def __init__(self, link: AmiLink) -> None:
        self._link = link

    async def message(self, interface: str, text: str) -> None:
        """Send ``text`` to a PJSIP phone; other technologies can not show one.

        Raises:
            AsteriskError: Not sent, or nobody knows.
        """
        technology, _, endpoint = interface.partition("/")
        if technology == "PJSIP":
            to = f"pjsip:{endpoint}"
            await self._link.act(MessageSend(to=to, destination=to, sender="ctid", body=text))
