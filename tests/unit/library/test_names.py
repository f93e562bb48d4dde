"""What refuses says its name, where it has one."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import meshcore
from meshcore import ClientLimiter, SharedState, TokenBucket

STATE = SharedState()


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("is_of_clients", [False, True])
async def test_a_limiter_names_itself(is_shared: bool, is_of_clients: bool) -> None:
    STATE.remove("per user")
    limiter: Any
    if is_shared:
        make: Any = STATE.client_limiter if is_of_clients else STATE.token_bucket
        limiter = make("per user", "1/h", 1)
    else:
        limiter = (ClientLimiter if is_of_clients else TokenBucket)("1/h", 1, name="per user")
    of = ("x",) if is_of_clients else ()
    assert limiter.name == "per user"
    assert "'per user'" in repr(limiter)
    limiter.acquire(*of)
    with pytest.raises(meshcore.RateLimited, match=r"^rate limited by per user, retry") as told:
        limiter.acquire(*of)
    assert told.value.name == "per user"
    with pytest.raises(meshcore.RateLimited, match=r"^rate limited by per user, retry"):
        limiter.limiting(*of)(int.__call__)()
    vain = r"^waited in vain for tokens of per user, retry after"
    with pytest.raises(meshcore.RateLimited, match=vain) as told:
        await limiter.wait(*of, timeout="1ms")
    assert told.value.name == "per user"
    with pytest.raises(meshcore.RateLimited, match=vain):
        limiter.wait_blocking(*of, timeout="1ms")
    again = pickle.loads(pickle.dumps(told.value))
    assert (again.name, str(again)) == (told.value.name, str(told.value))


def test_what_has_no_name_says_none() -> None:
    bucket = TokenBucket("1/h", 1)
    bucket.acquire()
    with pytest.raises(meshcore.RateLimited, match=r"^rate limited, retry after") as told:
        bucket.acquire()
    assert told.value.name is None
    assert meshcore.RateLimited("busy", 5).name is None
    wrong: Any = 5
    with pytest.raises(TypeError, match="name: expected a text, got 5"):
        TokenBucket("1/h", name=wrong)
    with pytest.raises(TypeError, match="name: expected a text, got 5"):
        ClientLimiter("1/h", name=wrong)
    with pytest.raises(TypeError, match="name: expected a text, got 5"):
        meshcore.CircuitBreaker(name=wrong)


@pytest.mark.parametrize("name", [None, "database"])
def test_a_breaker_names_itself(name: str | None) -> None:
    breaker = meshcore.CircuitBreaker(name=name)
    breaker.force_open("1h")
    with pytest.raises(meshcore.BreakerOpen) as told:
        breaker.acquire()
    assert told.value.name == name
    assert pickle.loads(pickle.dumps(told.value)).name == name
