"""What each proxy is told: the same work, one thread, no access log.

Each limits clients (far above the load), routes, balances by least requests, sets a request id
and forwarding fields, and counts for metrics. Envoy's client limit is one bucket for all clients
(its local rate limit knows no addresses without a descriptor service), nginx has no breaker:
where they differ, the others do less than meshcore.
"""

from __future__ import annotations

from typing import NamedTuple


class Ports(NamedTuple):
    """Where a proxy listens and forwards to, and its certificate."""

    plain: int
    tls: int
    layered: int
    origin: int
    folder: str
    routes: int = 1

    def numbered(self) -> range:
        """The routes beside the one that takes all: `/route/N`."""
        return range(self.routes - 1)


def origin(port: int, folder: str) -> str:
    """nginx as the origin: small, 16 KiB and 1 MiB bodies, and a sink for uploads."""
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
    location / {{ return 200 "hello from the origin, about sixty-four bytes of it ........\\n"; }}
  }}
}}
"""


def meshcore(p: Ports) -> str:
    """The full default stack; a listener of its own has a layer in Python."""
    limit = "client_limit: {rate: 10000000/s, burst: 10000000}"
    layered = f"layers: [{{{limit}}}, {{python: benches.load.layer:SetTenant}}]"
    listener = "layers: [{client_limit: {rate: 10000000/s, burst: 10000000}}]"
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
{more}upstreams:
  api: {{balance: least_request, endpoints: ["127.0.0.1:{p.origin}"]}}
"""


def haproxy(p: Ports) -> str:
    """One thread, a stick table by address."""
    more = "".join(f"  use_backend api if {{ path_beg /route/{i:04} }}\n" for i in p.numbered())
    return f"""
global
  nbthread 1
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout client 75s
  timeout server 15s
  timeout connect 1s
  http-reuse always
  option forwardfor
  unique-id-format %[uuid()]
  unique-id-header x-request-id
frontend edge
  bind 127.0.0.1:{p.plain}
  bind 127.0.0.1:{p.tls} ssl crt {p.folder}/both.pem
  stick-table type ip size 100k expire 10s store http_req_rate(1s)
  http-request track-sc0 src
  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 10000000 }}
{more}  use_backend api if {{ path_beg / }}
backend api
  balance leastconn
  server one 127.0.0.1:{p.origin} observe layer7 error-limit 5 on-error mark-down check
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
  upstream api {{ least_conn; server 127.0.0.1:{p.origin} max_fails=5; keepalive 256;
    keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{p.plain};
    listen 127.0.0.1:{p.tls} ssl;
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


def envoy(p: Ports) -> str:
    """One worker (`--concurrency 1`), outlier detection as its breaker."""
    to = "route: {cluster: api, timeout: 15s}"
    more = "".join(f"{{match: {{prefix: /route/{i:04}}}, {to}}}, " for i in p.numbered())
    chain = f"""
      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/{_MANAGER}
          stat_prefix: edge
          use_remote_address: true
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [
                {more}{{match: {{prefix: /}}, {to}}}]}}
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
  clusters:
  - name: api
    type: STATIC
    lb_policy: LEAST_REQUEST
    connect_timeout: 1s
    outlier_detection: {{consecutive_5xx: 5}}
    load_assignment:
      cluster_name: api
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{
            address: 127.0.0.1, port_value: {p.origin}}}}}}}
"""
