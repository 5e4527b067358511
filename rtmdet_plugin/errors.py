"""The error of a run that is refused: what the user asked for can't be done, and the message says what to change."""


class RefusedError(ValueError):
    """A training or test can't begin or continue as it was asked for.

    The message is for the user, so `mim train` and `mim test` print it without a traceback; see
    `rtmdet_plugin_startup`. Raise it only if the settings or the data are at fault, never for a bug.
    """
