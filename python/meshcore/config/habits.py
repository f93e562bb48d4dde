"""What people write who know another proxy, and what it is called here.

One table for the keys of each model and one for how its value is written, by the model's name.
Keys are compared without regard to case, hyphens and underscores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["called_here", "plain", "shape", "value_here"]


def _names(table: Mapping[str, str]) -> dict[str, str]:
    """What is written, to what is said of it: from a hint to the words that it is for."""
    return {word: hint for hint, words in table.items() for word in words.split()}


def _called(key: str) -> str:
    return f"it is called {key} here"


_UPSTREAM: Final = (
    "backend backends service services cluster clusters pool pools target targets destination "
    "destinations proxypass usebackend origin origins serviceref backendrefs"
)
_LAYERS: Final = (
    "filter filters httpfilters middleware middlewares plugin plugins policy policies ratelimit "
    "ratelimits ratelimiting limitreq"
)
_TLS: Final = "ssl tlscontext transportsocket certificate certificates sslcertificate crt certs"
_ENDPOINTS: Final = (
    "server servers host hosts address addresses node nodes member members target targets "
    "backend backends instances url urls port loadassignment lbendpoints replicas"
)

_KEYS: Final[dict[str, dict[str, str]]] = {
    "Config": _names(
        {
            _called("upstreams"): f"{_UPSTREAM} upstream loadbalancer loadbalancers",
            _called("listeners"): "listener entrypoint entrypoints frontend frontends bind binds "
            "listen gateway gateways ports port",
            "where clients come in is listeners.NAME, where requests go upstreams.NAME.endpoints": (
                "server servers"
            ),
            _called("routes"): "route rule rules location locations router routers virtualhost "
            "virtualhosts vhost vhosts routeconfig routeconfigs httproute httproutes ingress paths",
            _called("access_log"): "log logs logging accesslogs logformat",
            "listeners, routes and upstreams stand at the top, without it": "http staticresources "
            "dynamicresources resources config mesh meshcore proxy spec",
            "they are layers of a listener or of a route": _LAYERS,
            "it is a key of one listener or upstream": f"tls {_TLS}",
            _called("admin"): "stats metrics prometheus api dashboard ping health healthz",
            _called("workers"): "workerprocesses nbthread nbproc threads concurrency processes",
            "every key has a default of its own; docs/configuration.md lists them": "global "
            "globals default defaults",
            "a key of routes, upstreams or listeners": "timeout timeouts",
            _called("drain"): "shutdown graceful gracetimeout shutdowntimeout terminationgrace",
        }
    ),
    "AccessLog": _names(
        {
            _called("to"): "path file filename filepath output out destination target stream sink",
            _called("format"): "encoding encoder type fmt form logformat jsonformat kind",
        }
    ),
    "Listener": _names(
        {
            "it is called bind here, as in bind: 0.0.0.0:8080": "address addresses listen port "
            "hostport host socketaddress ip",
            _called("tls"): _TLS,
            _called("layers"): f"filterchains {_LAYERS}",
            "routes stand at the top: match.host, listeners of a route say for what": "route "
            "routes servername servernames hosts domains virtualhosts rules",
            _called("protocols"): "protocol http2 alpn alpnprotocols codectype",
            _called("client_address"): "trustedips forwardedheaders realip xffnumtrustedhops "
            "setrealipfrom useforwardedfor",
            _called("proxy_protocol"): "proxyprotocol acceptproxy useproxyprotocol",
            _called("half_close"): "halfclosed enablehalfclose",
        }
    ),
    "Route": _names(
        {
            _called("upstream"): f"{_UPSTREAM} to forward url proxy server servers upstreams",
            _called("match"): "location matches matcher matchers when if rule rules conditions",
            "it is a key of match.path: match: {path: {prefix: /v1}}": "prefix pathprefix exact "
            "regex uri pathregex",
            "it is called host here, a key of match": "hosts hostname hostnames domain domains "
            "servername authority",
            "it is called methods here, a key of match": "method verbs",
            _called("layers"): _LAYERS,
            "it is called timeout here, and has a unit: 500ms": "requesttimeout proxyreadtimeout "
            "timeouts responsetimeout readtimeout",
            _called("retry"): "retries retrypolicy numretries attempts proxynextupstream",
            "write upgrade: [websocket]": "websocket websockets upgrades upgradeconfigs",
            _called("respond"): "return directresponse fixedresponse response status body",
            "which request: match.headers; changes: request_headers, response_headers": "headers "
            "setheaders addheaders requestheaderstoadd proxysetheader",
            _called("name"): "id key title",
            "it is called rewrite.path here": "stripprefix prefixrewrite urlrewrite rewritetarget "
            "replacepath",
            "it is called rewrite.host here": "hostrewrite hostrewriteliteral proxysethost",
            "which header or weight: no splitting; one upstream holds weighted endpoints": "weight "
            "weightedclusters split",
        }
    ),
    "Match": _names(
        {
            "write path: {prefix: /v1}": "prefix pathprefix",
            "write path: {exact: /v1}, or with prefix or regex": "exact uri url location",
            "write path: {regex: …}": "regex pathregex saferegex",
            _called("host"): "hosts hostname hostnames domain domains authority servername",
            _called("methods"): "method verbs",
            _called("headers"): "header",
            _called("query"): "querystring params queryparameters queryparams args",
        }
    ),
    "PathMatch": _names(
        {_called("exact"): "path equals value", _called("prefix"): "pathprefix startswith"}
    ),
    "ValueMatch": _names(
        {
            _called("exact"): "value equals equal is exactmatch stringmatch in",
            _called("present"): "presentmatch exists",
            _called("absent"): "missing",
            _called("regex"): "matches saferegex regexmatch pattern",
            _called("prefix"): "startswith prefixmatch",
            _called("suffix"): "endswith suffixmatch",
        }
    ),
    "Upstream": _names(
        {
            _called("endpoints"): _ENDPOINTS,
            _called("balance"): "lb lbpolicy loadbalancer loadbalancing loadbalance strategy "
            "algorithm policy",
            "no endpoint is asked for its health; one that fails is left out: ejection": "health "
            "healthcheck healthchecks check checks",
            _called("ejection"): "outlierdetection passivehealth maxfails failtimeout",
            _called("circuit_breaker"): "circuitbreakers circuitbreaking breaker thresholds",
            "it is called protocol here, as in protocol: h2": "http2 http2protocoloptions grpc "
            "scheme proto type",
            _called("tls"): _TLS,
            _called("pool"): "keepalive connectionpool keepaliverequests idletimeout",
            _called("proxy_protocol"): "proxyprotocol sendproxy sendproxyv2",
            _called("lenient"): "acceptinvalidhttpresponse acceptunsafeviolationsinhttpresponse "
            "insecurehttpparser http1protocoloptions",
            _called(
                "preserve_case"
            ): "headercase preservecasewords h1caseadjust preserveheadercase",
            "it is called limits.connections here": "maxconnections maxconn",
            "it is a key of routes; here it is connect_timeout for connecting": "timeout timeouts",
            "it is a key of routes": "retry retries",
        }
    ),
    "Endpoint": _names(
        {
            "one text for both: address: host:port": "host hostname ip port url addr socketaddress "
            "server name target",
        }
    ),
    "ListenerTls": _names(
        {
            _called("cert"): "certificate certfile crt chain certchain certificatechain "
            "sslcertificate pem",
            _called("key"): "privatekey keyfile certkey sslcertificatekey",
            _called("client_ca"): "ca cafile clientcafile clientcas trustedca",
            _called("client_auth"): "clientauthentication mtls requireclientcertificate "
            "validationcontext verify",
            _called("min_version"): "version versions minimum protocols minprotocol sslprotocols",
        }
    ),
    "UpstreamTls": _names(
        {
            _called("server_name"): "sni servername hostname",
            _called("ca"): "cafile trustedca rootca cacert trustedcertificate",
            _called("insecure"): "insecureskipverify verify skipverify sslverify",
            _called("cert"): "certificate clientcert certfile crt",
            _called("key"): "privatekey clientkey keyfile",
        }
    ),
    "RouteLayer": _names(
        {
            "it is called client_limit here for each client, limit for all": "ratelimit ratelimits "
            "ratelimiting rate limitreq quota throttle localratelimit",
            _called("in_flight"): "concurrency maxinflight inflight inflightreq bulkhead",
            _called("circuit_breaker"): "circuitbreaker breaker",
            _called("allow"): "rbac acl authorization authz authorizationpolicy ipallowlist "
            "ipwhitelist allowlist whitelist access",
            "it is called allow here, and names what may pass; the rest is refused": "deny "
            "denylist block blocklist blacklist ipdenylist",
            _called("python"): "layer plugin module class wasm lua",
        }
    ),
    "PythonLayer": _names(
        {
            _called("class"): "name module path layer type",
            _called("with"): "args arguments kwargs config params parameters options settings",
        }
    ),
    "Retry": _names(
        {
            _called("retries"): "attempts count max numretries maxretries tries",
            _called("when"): "on retryon conditions statuses",
            _called("per_try"): "pertrytimeout timeout trytimeout",
        }
    ),
    "Redirect": _names(
        {
            _called("status"): "code statuscode responsecode",
            _called("scheme"): "httpsredirect schemeredirect protocol",
            _called("host"): "hostname hostredirect",
            "write scheme, host and path, each where it changes": "to url location target",
        }
    ),
    "Respond": _names(
        {
            _called("status"): "code statuscode",
            _called("body"): "text content message",
            "it is called content_type here": "type contenttype headers",
        }
    ),
    "LimitKey": _names(
        {
            _called("header"): "name field headername httpheader requestheader",
            _called("client"): "ip address clientip clientaddress remoteaddr remoteaddress "
            "remoteip sourceip source sourceaddress binaryremoteaddr peer",
            _called("host"): "authority domain hostname servername",
        }
    ),
    "Allow": _names(
        {
            _called("rules"): "policies policy allow from principals permissions",
            "it is called shadow here, and is on or off": "dryrun shadowrules reportonly audit "
            "mode enforce",
            "write rules: [{name: …, …}], with this key in a rule": "identities networks methods "
            "paths",
        }
    ),
    "AllowRule": _names(
        {
            _called("identities"): "principals principal identity from source spiffe san subjects "
            "authenticated users clients",
            _called("networks"): "ip ips ipblocks remoteipblocks remoteip directremoteip sourceip "
            "sourcerange cidr cidrs addresses network src",
            _called("methods"): "method verbs",
            "it is called paths here: paths: [{prefix: /v1}]": "path urlpath prefix exact regex "
            "uri to permissions url",
            _called("name"): "id key title",
            "layers of a route are for that route's hosts": "host hosts authority domains",
            "clients choose their fields: match them in a route": "header headers",
            "rules only let pass: what no rule names is refused": "action effect deny allow not "
            "notmethods notpaths except",
        }
    ),
    "Identities": _names({_called("spiffe"): "id ids spiffeid", _called("san"): "dns uri names"}),
    "Quota": _names(
        {
            "it is part of rate: 100/s": "per period interval window requests limit "
            "requestsperunit unit tokens average",
            _called("burst"): "size maxtokens capacity",
        }
    ),
}

_KEYS["Certificate"] = _KEYS["ClientsCertificate"] = _KEYS["ListenerTls"]
_KEYS["ListenerLayer"] = _KEYS["RouteLayer"]
_KEYS["Limit"] = _KEYS["ClientLimit"] = _KEYS["Quota"]

# How a value is written that was given as one text or number; {} is what was written.
_SHAPES: Final = {
    "Listener": "write {{bind: {}}}",
    "Upstream": "write {{endpoints: [{}]}}",
    "PathMatch": "write {{prefix: {0}}}, or {{exact: {0}}} for this path alone",
    "Rewrite": "write {{path: {}}}",
    "Admin": "write {{bind: {}}}",
    "Redirect": "write {{scheme: https}}, with host and path where they change too",
    "ListenerTls": "write {{cert: edge.pem, key: edge.key}}",
    "Certificate": "write {{cert: {}, key: FILE}}",
    "ClientsCertificate": "write {{cert: {}, key: FILE}}",
    "UpstreamTls": "write {{}} to verify endpoints against the system's CAs",
    "Http2": "leave the key out for its defaults, or write off",
    "UpstreamHttp2": "leave the key out for its defaults; protocol: h2 chooses it",
    "CircuitBreaker": "leave the key out for its defaults, or write off",
    "Ejection": "leave the key out for its defaults, or write off",
    "ClientLimit": "write {{rate: {}}}",
    "Limit": "write {{rate: {}}}",
    "InFlight": "write {{max: {}}}",
    "RouteLayer": "write {}: {{…}}, with its keys",
    "ListenerLayer": "write {}: {{…}}, with its keys",
    "Pool": "write {{idle: {}}}",
    "RetryBudget": "write {{percent: {}}}",
    "Allow": "write {{rules: [{{name: …, …}}]}}",
    "Match": "write {{path: {{prefix: {}}}}}, or {{host: …}}",
    "FieldChanges": "write {{set: {{name: value}}}}, or add, or remove: [name]",
    "ClientAddress": "write {{trusted_hops: …}}, or {{trusted: [network, …]}}",
}

# By what is written here; a word may mean one thing of one key and another of the next.
_VALUES: Final = tuple(
    (here, frozenset(words.split()))
    for here, words in {
        "h2": "http2 http/2 grpc h2c http2.0 grpcs",
        "http1": "http http1.1 http/1.1 h1 https",
        "round_robin": "roundrobin rr wrr weightedroundrobin static-rr",
        "least_request": "leastconn leastconnections leastrequests ll p2c leastrequest",
        "random": "rand",
        "json": "on true yes stdout",
        "serve": "on true yes enabled allow",
        "drop": "off false no disabled close",
        "keep": "on true yes allow",
        "refuse": "off false no reject deny",
        "1.2": "tlsv1.2 tls1.2 tlsv12 tls12",
        "1.3": "tlsv1.3 tls1.3 tlsv13 tls13",
        "502, 503 and 504": "gateway-error gatewayerror",
        "connect": "connect-failure connectfailure error",
        "refused": "refused-stream refusedstream",
        "off": "none no false disabled null",
        "on": "yes true enabled",
        "0": "none never infinite infinity unlimited",
    }.items()
)


def plain(word: str) -> str:
    """A key as it is compared."""
    return word.lower().replace("_", "").replace("-", "")


def called_here(model: str, key: str) -> str | None:
    """What is said of a key that another proxy has, where this model stands."""
    if model == "LimitKey" and "-" in key:
        return f"write header: {key}"
    return _KEYS.get(model, {}).get(plain(key))


def shape(model: str, value: object) -> str | None:
    """How the value of this model is written, when a text or number stands in its place."""
    if model == "Respond":
        number = isinstance(value, int) and not isinstance(value, bool)
        return f"write {{status: {value}}}" if number else f"write {{body: {value}}}"
    if model == "Retry":
        number = isinstance(value, int) and not isinstance(value, bool)
        return f"write {{retries: {value}}}" if number else "leave the key out, or write off"
    if model == "PathMatch" and isinstance(value, str) and value.endswith(("/*", "/**")):
        return f"write {{prefix: {value.rstrip('*').rstrip('/') or '/'}}}"
    if isinstance(value, bool):
        value = str(value).lower()
    written = _SHAPES.get(model)
    return written.format(value) if written else None


def value_here(value: str, known: tuple[str, ...]) -> str | None:
    """The one of these words that another proxy calls so."""
    words = {value.lower(), plain(value)}
    return next((here for here, names in _VALUES if here in known and names & words), None)
