"""What each proxy is told: the same work, one thread, no access log.

Each limits clients (far above the load), routes, balances by least requests, sets a request id
and forwarding fields, and counts for metrics. Envoy's client limit is one bucket for all clients
(its local rate limit knows no addresses without a descriptor service), nginx has no breaker:
where they differ, the others do less than meshcore. What is below `/h2` and `/grpc` goes to origins
over HTTP/2, which nginx cannot. Windows are everyone's defaults, streams are more than the load's.
"""

from __future__ import annotations

from typing import NamedTuple

SMALL = "hello from the origin, about sixty-four bytes of it ........\n"


class Origins(NamedTuple):
    """Where the origins listen: HTTP/1.1, HTTP/2, and HTTP/2 with the trailer of gRPC."""

    h1: int
    h2: int
    grpc: int


class Ports(NamedTuple):
    """Where a proxy listens and forwards to, and its certificate."""

    plain: int
    tls: int
    layered: int
    # HTTP/2 without TLS; the same as `plain` where a proxy finds out by itself.
    h2: int
    origins: Origins
    folder: str
    routes: int = 1

    def numbered(self) -> range:
        """The routes beside the one that takes all: `/route/N`."""
        return range(self.routes - 1)


def origin(port: int, folder: str) -> str:
    """nginx as the origin: bodies from small to 100 MiB, and a sink for uploads."""
    return f"""
daemon off; worker_processes 1; pid {folder}/origin.pid; error_log {folder}/origin.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; client_max_body_size 16m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location = /16k {{ root {folder}/files; }}
    location = /1m {{ root {folder}/files; }}
    location = /100m {{ root {folder}/files; }}
    location / {{ return 200 "{SMALL}"; }}
  }}
}}
"""


def meshcore(p: Ports) -> str:
    """The full default stack; a listener of its own has a layer in Python."""
    limit = "client_limit: {rate: 10000000/s, burst: 10000000}"
    layered = f"layers: [{{{limit}}}, {{python: benches.load.layer:SetTenant}}]"
    listener = "layers: [{client_limit: {rate: 10000000/s, burst: 10000000}}]"
    # By default 1,024 streams at once are too many, as they are for Envoy.
    limits = "limits: {connections: 10000, pending: 10000, requests: 10000}"
    each = f"balance: least_request, {limits}"
    tls = f"tls: {{cert: {p.folder}/cert.pem, key: {p.folder}/key.pem}}"
    more = "".join(
        f"  - {{name: r{i}, match: {{path: {{prefix: /route/{i:04}}}}}, upstream: api}}\n"
        for i in p.numbered()
    )
    return f"""
version: 1
admin: {{bind: "127.0.0.1:0"}}
drain: 100ms
listeners:
  plain: {{bind: "127.0.0.1:{p.plain}", {listener}}}
  tls: {{bind: "127.0.0.1:{p.tls}", {tls}, {listener}}}
  layered: {{bind: "127.0.0.1:{p.layered}", {layered}}}
routes:
  - {{name: all, match: {{path: {{prefix: /}}}}, upstream: api, timeout: 15s}}
  - {{name: h2, match: {{path: {{prefix: /h2}}}}, upstream: h2, timeout: 15s}}
  - {{name: grpc, match: {{path: {{prefix: /grpc}}}}, upstream: grpc, timeout: 15s}}
{more}upstreams:
  api: {{{each}, endpoints: ["127.0.0.1:{p.origins.h1}"]}}
  h2: {{{each}, protocol: h2, endpoints: ["127.0.0.1:{p.origins.h2}"]}}
  grpc: {{{each}, protocol: h2, endpoints: ["127.0.0.1:{p.origins.grpc}"]}}
"""


_HAPROXY = """
global
  nbthread 1
  ssl-default-bind-options ssl-min-ver TLSv1.2
  tune.h2.max-concurrent-streams 1000
defaults
  mode http
  timeout client 75s
  timeout server 15s
  timeout connect 1s
  http-reuse always
  option forwardfor
  unique-id-format %[uuid()]
  unique-id-header x-request-id
"""
_HAPROXY_LIMIT = """stick-table type ip size 100k expire 10s store http_req_rate(1s)
  http-request track-sc0 src
  http-request deny deny_status 429 if { sc_http_req_rate(0) gt 10000000 }"""


def haproxy(p: Ports) -> str:
    """One thread, a stick table by address; a frontend of its own for HTTP/2."""
    more = "".join(f"  use_backend api if {{ path_beg /route/{i:04} }}\n" for i in p.numbered())
    server = "observe layer7 error-limit 5 on-error mark-down check"
    return f"""{_HAPROXY}
frontend edge
  bind 127.0.0.1:{p.plain}
  bind 127.0.0.1:{p.tls} ssl crt {p.folder}/both.pem
  {_HAPROXY_LIMIT}
{more}  use_backend api if {{ path_beg / }}
frontend edge_h2
  bind 127.0.0.1:{p.h2} proto h2
  {_HAPROXY_LIMIT}
  use_backend h2 if {{ path_beg /h2 }}
  use_backend grpc if {{ path_beg /grpc }}
  use_backend api if {{ path_beg / }}
backend api
  balance leastconn
  server one 127.0.0.1:{p.origins.h1} {server}
backend h2
  balance leastconn
  server one 127.0.0.1:{p.origins.h2} proto h2 {server}
backend grpc
  balance leastconn
  server one 127.0.0.1:{p.origins.grpc} proto h2 {server}
"""


def nginx(p: Ports) -> str:
    """One worker, a zone by address."""
    forward = """proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"""
    more = "".join(f"    location /route/{i:04} {{ {forward} }}\n" for i in p.numbered())
    return f"""
daemon off; worker_processes 1; pid {p.folder}/nginx.pid; error_log {p.folder}/nginx.err;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 100000000; client_max_body_size 16m;
  client_body_temp_path {p.folder}/nb; proxy_temp_path {p.folder}/np;
  fastcgi_temp_path {p.folder}/nf; uwsgi_temp_path {p.folder}/nu; scgi_temp_path {p.folder}/ns;
  limit_req_zone $binary_remote_addr zone=clients:10m rate=1000000r/s;
  upstream api {{ least_conn; server 127.0.0.1:{p.origins.h1} max_fails=5; keepalive 2048;
    keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{p.plain};
    listen 127.0.0.1:{p.tls} ssl;
    listen 127.0.0.1:{p.h2} http2;
    ssl_certificate {p.folder}/cert.pem; ssl_certificate_key {p.folder}/key.pem;
    limit_req zone=clients burst=1000000 nodelay;
{more}    location / {{ {forward} }}
  }}
}}
"""


_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_LIMIT = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
_ROUTER = "envoy.extensions.filters.http.router.v3.Router"
_TLS = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_PROTOCOLS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def _cluster(name: str, port: int, h2: bool) -> str:
    """Limits far above the load."""
    spoken = f"""
    typed_extension_protocol_options:
      {_PROTOCOLS}:
        "@type": type.googleapis.com/{_PROTOCOLS}
        explicit_http_config: {{http2_protocol_options: {{max_concurrent_streams: 1000}}}}"""
    return f"""
  - name: {name}
    type: STATIC
    lb_policy: LEAST_REQUEST
    connect_timeout: 1s
    outlier_detection: {{consecutive_5xx: 5}}
    circuit_breakers: {{thresholds: [{{
      max_connections: 10000, max_pending_requests: 10000, max_requests: 10000}}]}}
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{
            address: 127.0.0.1, port_value: {port}}}}}}}{spoken if h2 else ""}"""


def _envoy_route(prefix: str, cluster: str) -> str:
    return f"{{match: {{prefix: {prefix}}}, route: {{cluster: {cluster}, timeout: 15s}}}}, "


def _envoy_chain(p: Ports) -> str:
    more = "".join(_envoy_route(f"/route/{i:04}", "api") for i in p.numbered())
    more += _envoy_route("/h2", "h2") + _envoy_route("/grpc", "grpc")
    return f"""
      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/{_MANAGER}
          stat_prefix: edge
          use_remote_address: true
          codec_type: AUTO
          http2_protocol_options: {{max_concurrent_streams: 1000}}
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [
                {more}{_envoy_route("/", "api")}]}}
          http_filters:
          - name: limit
            typed_config:
              "@type": type.googleapis.com/{_LIMIT}
              stat_prefix: limit
              token_bucket: {{max_tokens: 100000000, tokens_per_fill: 100000000,
                fill_interval: 1s}}
              filter_enabled: {{default_value: {{numerator: 100}}}}
              filter_enforced: {{default_value: {{numerator: 100}}}}
          - name: router
            typed_config: {{"@type": type.googleapis.com/{_ROUTER}}}
"""


def envoy(p: Ports) -> str:
    """One worker (`--concurrency 1`), outlier detection as its breaker."""
    chain = _envoy_chain(p)
    return f"""
static_resources:
  listeners:
  - name: plain
    address: {{socket_address: {{address: 127.0.0.1, port_value: {p.plain}}}}}
    filter_chains:
    - name: plain{chain}
  - name: tls
    address: {{socket_address: {{address: 127.0.0.1, port_value: {p.tls}}}}}
    filter_chains:
    - name: tls
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/{_TLS}
          common_tls_context:
            tls_certificates:
            - certificate_chain: {{filename: {p.folder}/cert.pem}}
              private_key: {{filename: {p.folder}/key.pem}}{chain}
  clusters:\
{_cluster("api", p.origins.h1, h2=False)}\
{_cluster("h2", p.origins.h2, h2=True)}\
{_cluster("grpc", p.origins.grpc, h2=True)}
"""
