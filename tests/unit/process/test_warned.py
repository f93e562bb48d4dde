"""The log is told of mistakes once, and of many only that there are more."""

import pytest

from meshcore.config.load import Loaded, load_bytes
from meshcore.process.warned import MOST, Warned


def loaded(number: int, before: str = "") -> Loaded:
    upstreams = "".join(f"  u{i}: {{endpoints: ['127.0.0.1:1']}}\n" for i in range(number))
    text = f"{before}version: 1\nlisteners: {{e: {{bind: 127.0.0.1:1}}}}\n"
    text += f"routes: [{{name: r, respond: {{}}}}]\nupstreams:\n{upstreams}"
    return load_bytes(text.encode(), "m", None)


def test_each_is_told_once_wherever_it_stands(caplog: pytest.LogCaptureFixture) -> None:
    warned = Warned()
    warned.log_new(loaded(1))
    assert caplog.messages == [
        "m:5:3: warning: upstreams.u0: no route sends anything to this upstream"
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    caplog.clear()
    warned.log_new(loaded(2, before="# two\n"))
    assert [message[:6] for message in caplog.messages] == ["m:7:3:"], "what is new"
    caplog.clear()
    warned.log_new(loaded(1))
    assert caplog.messages == []
    warned.log_new(loaded(2))
    assert len(caplog.messages) == 1, "what was mended and is back"


def test_very_many_are_told_by_their_number(caplog: pytest.LogCaptureFixture) -> None:
    Warned().log_new(loaded(MOST + 5))
    assert len(caplog.messages) == MOST + 1
    assert caplog.messages[-1] == "and 5 more warnings: meshcore check tells them"
