"""One line a request, for people and for programs, without its text."""

from __future__ import annotations

import json
import logging

import pytest

from hokku.protocol.exchange import Exchange
from hokku.telemetry.logs import JsonFormatter, log_exchange
from tests.telemetry.exchanges import an_exchange


def logged(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    caplog.set_level("INFO", "hokku.requests")
    log_exchange(exchange)
    (record,) = caplog.records
    return record


def test_a_line_for_people(caplog: pytest.LogCaptureFixture) -> None:
    assert logged(an_exchange(), caplog).getMessage() == (
        "request_id=req_1 method=POST path=/v1/messages status=200 duration_ms=2500.0 model=haiku "
        "outcome=succeeded stop_reason=end_turn input_tokens=123 cache_read_tokens=100 output_tokens=5 "
        "first_token_ms=500.0 user_id=user-1"
    )


def test_a_line_for_programs(caplog: pytest.LogCaptureFixture) -> None:
    line = json.loads(JsonFormatter().format(logged(an_exchange(error_type="api_error"), caplog)))
    assert line["time"].endswith("+00:00")
    assert (line["level"], line["logger"]) == ("info", "hokku.requests")
    assert (line["request_id"], line["model"], line["status"]) == ("req_1", "haiku", 200)
    assert (line["outcome"], line["error_type"]) == ("errored", "api_error")
    assert line["output_tokens"] == 5
    assert "secret" not in json.dumps(line)


def test_nobody_forges_a_line(caplog: pytest.LogCaptureFixture) -> None:
    exchange = Exchange("req_2", "GET", "/x\nrequest_id=req_3" + "y" * 1000, status=404)
    exchange.end("unknown")
    message = logged(exchange, caplog).getMessage()
    assert "\n" not in message
    assert len(message) < 400


def test_exceptions_are_one_line_for_programs() -> None:
    try:
        raise ValueError("as arranged")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("hokku", logging.ERROR, "file.py", 1, "it %s", ("broke",), info)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    assert json.loads(text)["message"] == "it broke"
    assert "as arranged" in json.loads(text)["exception"]


def test_without_the_level_nothing_is_put_together(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "hokku.requests")
    log_exchange(an_exchange())
    assert caplog.records == []
