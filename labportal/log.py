"""What the log says less about than Django would."""

import logging


class OneLine(logging.Filter):
    """A warning of one line. For what anybody can bring about from outside, such as a host name that is not ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.exc_info = record.exc_text = None
        return True
