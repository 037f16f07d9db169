"""Every exception ctid raises on purpose.

    CtidError
    ├── SettingsError        people wrote something we can not run with (exit 2)
    ├── AsteriskError        the telephone exchange
    │   ├── AmiDown          no connection; the action was not sent
    │   ├── ActionFailed     Asterisk answered "Error"
    │   ├── ActionTimedOut   no answer in time; the action may or may not have happened
    │   ├── ActionRefused    we would not send it: line break, NUL, too long, too many lines
    │   └── FramingError     bytes that can not be cut into messages
    ├── AgiError             one FastAGI request
    │   ├── AgiFramingError  what was sent is not FastAGI, or too much of it
    │   └── AgiHangup        the channel, or the socket, is gone
    ├── SinkUnavailable      nothing was delivered; safe to retry
    ├── LeadLost             another daemon leads by now; stop at once (exit 75)
    ├── LogUnavailable       our own disk: full, read-only or broken
    ├── PasswordsBusy        too many passwords wait to be checked; nothing was done
    └── StoreError           PostgreSQL
        ├── StoreUnavailable     away, slow or read-only; safe to retry
        ├── RowRefused           this value can never be stored; the server is fine
        ├── StaleEpoch           another daemon leads by now; nothing was written
        └── SchemaError          migrations missing, changed or newer than this ctid

Driver exceptions are translated into these in exactly one file per boundary.
"""


class CtidError(Exception):
    """Base of all."""


class SettingsError(CtidError):
    """Settings or policy that can not be run with; carries all problems at once.

    Attributes:
        problems: One line each: file, key, what is wrong, what to do.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class AsteriskError(CtidError):
    """Something between us and Asterisk."""


class AmiDown(AsteriskError):
    """No AMI connection: the action was not sent."""


class ActionFailed(AsteriskError):
    """Asterisk refused the action; the text is Asterisk's own."""


class ActionTimedOut(AsteriskError):
    """No reply within the deadline. The action may have happened: never send it again blindly."""


class ActionRefused(AsteriskError):
    """The action would have been unsafe on the wire and was not sent."""


class FramingError(AsteriskError):
    """The byte stream can not be cut into messages any more; the connection is useless."""


class AgiError(CtidError):
    """One FastAGI request went wrong; the caller goes on along the dialplan's default."""


class AgiFramingError(AgiError):
    """Not FastAGI, or more of it than we accept."""


class AgiHangup(AgiError):
    """The channel or the socket is gone. Says nothing about the call itself."""


class SinkUnavailable(CtidError):
    """A sink could not take the facts; nothing was delivered, so a retry is safe."""


class LeadLost(CtidError):
    """Another daemon leads by now: everything this one still does is wrong. Exit code 75."""


class LogUnavailable(CtidError):
    """A log on our own disk can not be written or made durable: full, read-only or broken."""


class PasswordsBusy(CtidError):
    """Too many passwords wait to be checked or encoded; come again in a moment."""


class StoreError(CtidError):
    """PostgreSQL said no."""


class StoreUnavailable(StoreError):
    """PostgreSQL is away, too slow, or read-only. The same write may be tried again."""


class RowRefused(StoreError):
    """PostgreSQL is well, but will never take this value; trying again is useless."""


class StaleEpoch(StoreError):
    """Another daemon has taken the lead since; the write was refused as a whole."""


class SchemaError(StoreError):
    """The database schema and this ctid do not fit together."""
