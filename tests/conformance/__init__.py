"""Outside conformance suites, run against meshcore or, to try them out, against another proxy.

`python -m tests.conformance SUITE` builds what the suite needs, starts an origin and the proxy,
runs the suite, prints a score and ends with 1 when it is not full.

tools          programs in Go, built once into a folder
autobahn_tool  a Python 2.7 with Autobahn, unpacked once into a folder
programs       a child process: waited for, logged, ended
proxies        meshcore, HAProxy and nghttpx, told to do the same
origin, echo   what stands behind the proxy: HTTP/1.1, WebSocket
score          what a suite found, and when that is enough
h2spec, grpc_interop, autobahn   the suites
"""
