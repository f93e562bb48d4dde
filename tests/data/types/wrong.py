"""Programs that are wrong: type checkers must refuse each line that says so, and no other."""

import asyncio
import contextlib

import meshcore
import meshcore.testing


def names() -> None:
    meshcore.TokenBuckt("1/s")  # wrong
    meshcore.Limiter  # wrong
    print(meshcore.now())  # wrong
    try:
        print()
    except meshcore.RateLimitd:  # wrong
        pass
    except meshcore.Refused as refused:
        print(refused.retry_aftr)  # wrong
        wait: str = refused.retry_after  # wrong
        print(wait)


def limits(bucket: meshcore.TokenBucket, clients: meshcore.ClientLimiter) -> None:
    meshcore.TokenBucket(100)  # wrong
    meshcore.TokenBucket("100/s", "200")  # wrong
    meshcore.TokenBucket("100/s", brst=200)  # wrong
    meshcore.ClientLimiter("1/s", client=5)  # wrong
    meshcore.TokenBucket("1/s", clock=5)  # wrong
    bucket.acquire("one")  # wrong
    bucket.aquire()  # wrong
    clients.acquire()  # wrong
    clients.acquire(5)  # wrong
    bucket.remaining()  # wrong


async def waits(bucket: meshcore.TokenBucket, breaker: meshcore.CircuitBreaker) -> None:
    await bucket.acquire()  # wrong
    bucket.wait()  # wrong
    async with bucket.remaining:  # wrong
        pass
    async with breaker:
        await breaker.acquire()  # wrong


def of_a_class(
    made: type[object],
    breaker: meshcore.CircuitBreaker,
    retry: meshcore.Retry,
    bucket: meshcore.TokenBucket,
) -> None:
    breaker(made)  # wrong
    retry(made)  # wrong
    bucket(made)  # wrong
    bucket.limiting()(made)  # wrong


def breaks(breaker: meshcore.CircuitBreaker) -> None:
    permit: meshcore.Permit = breaker.acquire()
    permit.succeed()  # wrong
    permit.success("why")  # wrong
    breaker.call(print, flush="now", sep=5)  # wrong
    breaker.call(abs, "text")  # wrong
    breaker.stat  # wrong
    breaker(5)  # wrong
    breaker(fallback=5)  # wrong

    @breaker()
    def loaded(number: int) -> str:
        return str(number)

    loaded("text")  # wrong


def is_transient(error: Exception) -> bool:
    return isinstance(error, OSError)


async def stacks(breaker: meshcore.CircuitBreaker) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(breaker)
        await stack.enter_async_context(5)  # wrong


def routes_of_texts(routes: meshcore.RouteMap[str]) -> None:
    routes.insert("all", 5)  # wrong
    routes.insert("all", "value", hst="a")  # wrong
    routes.insert("all", "value", prefix=5)  # wrong
    routes.insert("all", "value", priority="high")  # wrong
    routes.insert_all([("all", "value", {"hosts": "a"})])  # wrong
    print(routes.lookup("a", "/").value)  # wrong
    found = routes.lookup("a", "/")
    if found is not None:
        number: int = found.value  # wrong
        print(found.valu, number)  # wrong
    for entry in routes:
        print(entry.hosts)  # wrong


def balances(balancer: meshcore.Balancer) -> None:
    meshcore.Balancer([1])  # wrong
    meshcore.Balancer(["a:1"], balance="best")  # wrong
    meshcore.Balancer(["a:1"], eject_fr="1s")  # wrong
    meshcore.Balancer(["a:1"], failure_on="OSError")  # wrong
    meshcore.Balancer(["a:1"], eject_for=[])  # wrong
    with balancer.pick() as attempt:
        print(attempt.addres)  # wrong
    for each in balancer.status():
        print(each.in_fligth)  # wrong


def shares(state: meshcore.SharedState) -> None:
    meshcore.SharedState(5)  # wrong
    meshcore.SharedState("orders", sise="1MiB")  # wrong
    state.bucket("api")  # wrong
    state.token_bucket("api", rat="1/s")  # wrong
    state.token_bucket("api")  # wrong
    state.client_limiter("api", "1/s", clients="many")  # wrong
    state.remove()  # wrong
    limiter: meshcore.ClientLimiter = state.token_bucket("api", "1/s")  # wrong
    print(limiter)


class TakesText(meshcore.Layer):
    def on_request(self, request: str) -> None:  # wrong
        print(request)


class GivesText(meshcore.Layer):
    def on_request(self, request: meshcore.Request) -> str:  # wrong
        return request.path


class Uses(meshcore.Layer):
    def on_request(self, request: meshcore.Request) -> meshcore.Answer | None:
        request.set_header("x-tenant", 5)  # wrong
        print(request.headrs())  # wrong
        request.path = "/"  # wrong
        if request.host:
            return meshcore.Answer("200")  # wrong
        return meshcore.Answer(200, {"a": "b"})  # wrong

    def on_response(self, request: meshcore.Request, response: meshcore.Response) -> None:
        response.status.lower()  # wrong
        response.set_headr("a", "b")  # wrong


async def serves(config: meshcore.Config, layer: Uses) -> None:
    meshcore.Proxy("mesh.yaml")  # wrong
    meshcore.Proxy(config, layers=[layer])  # wrong
    meshcore.Proxy(config, layers={"own:Uses": Uses})  # wrong
    meshcore.load_text(config)  # wrong
    proxy = meshcore.Proxy(config)
    proxy.start()  # wrong
    await proxy.serve(handle_signal=True)  # wrong
    await proxy.reload()  # wrong
    print(proxy.adresses)  # wrong
    with proxy:  # wrong
        pass


asyncio.run(meshcore.Proxy)  # wrong


async def limiters_that_wait(
    bucket: meshcore.TokenBucket, clients: meshcore.ClientLimiter, retry: meshcore.Retry
) -> None:
    await bucket.wait("one")  # wrong
    await bucket.wait(timeout=[])  # wrong
    bucket.wait_blocking(timout=1)  # wrong
    await clients.wait(5)  # wrong
    bucket.peek().fields(5)  # wrong
    clients.peek()  # wrong
    bucket.waiting(1).remaining  # wrong
    meshcore.Retry("3")  # wrong
    meshcore.Retry(pauses=1)  # wrong
    meshcore.Retry(budget=5)  # wrong
    retry.call(abs, "text")  # wrong
    await retry.call_async(abs, 5)  # wrong
    meshcore.Deadline([])  # wrong
    meshcore.Deadline("1s", clock=5)  # wrong
    meshcore.Retry(on=is_transient, on_retry=lambda told: print(told.attempt, told.pause))
    meshcore.Retry(on_retry=lambda told: print(told.attempts))  # wrong
    retry("x")  # wrong
    print(retry.snapshot().gave_up.budgets)  # wrong
    bucket("x")  # wrong
    bucket.waiting()("x")  # wrong
    clients.limiting("a")("x")  # wrong

    @bucket
    def limited(number: int) -> str:
        return str(number)

    limited("text")  # wrong

    @retry
    async def fetched(number: int) -> str:
        return str(number)

    number: int = await fetched(1)  # wrong
    print(number)


def tests(mesh: meshcore.testing.Mesh, layer: meshcore.Layer) -> None:
    meshcore.testing.Mash("mesh.yaml")  # wrong
    meshcore.testing.Mesh(b"version: 1")  # wrong
    meshcore.testing.Mesh("mesh.yaml", layers={"a:B": 5})  # wrong
    mesh.route("GET http://a.example/").name  # wrong
    mesh.decide("GET http://a.example/", header={})  # wrong
    asked = mesh.decide("GET http://a.example/", headers={})
    asked.action = "answer"  # wrong
    print(asked.endpont)  # wrong
    mesh.decide("GET http://a.example/", body="text")  # wrong
    mesh.fail(asked, "timeout")  # wrong
    mesh.succeed("GET http://a.example/")  # wrong
    mesh.advance(None)  # wrong
    meshcore.testing.run(layer, "GET http://a.example/")  # wrong
    meshcore.testing.response("200")  # wrong
    meshcore.testing.StubService("200").requests.first  # wrong
    meshcore.testing.Reply(200, body="text")  # wrong
