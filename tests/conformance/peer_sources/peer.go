// A peer of TLS on Go's standard library: `peer client …` asks once and says in one line what it
// met, `peer server …` answers and says in its answers what it met.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

var versions = map[string]uint16{"1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

var (
	at     = flag.String("at", "", "host:port")
	name   = flag.String("name", "", "server name")
	ca     = flag.String("ca", "", "roots, PEM")
	cert   = flag.String("cert", "", "own chain, PEM")
	key    = flag.String("key", "", "own key, PEM")
	alpn   = flag.String("alpn", "", "protocols, with commas")
	max    = flag.String("max", "1.3", "newest version")
	plain  = flag.Bool("plain", false, "ask without TLS")
	times  = flag.Int("times", 1, "so many connections, which resume where they can")
	client = flag.String("client", "none", "of a server: none or require certificates")
)

func said(version uint16) string {
	return strings.TrimPrefix(tls.VersionName(version), "TLS ")
}

func fail(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(0)
	}
}

func roots() *x509.CertPool {
	if *ca == "" {
		return nil
	}
	text, err := os.ReadFile(*ca)
	fail(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

func config() *tls.Config {
	made := &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: versions[*max]}
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		fail(err)
		made.Certificates = []tls.Certificate{pair}
	}
	if *alpn != "" {
		made.NextProtos = strings.Split(*alpn, ",")
	}
	return made
}

func ask() {
	request := fmt.Sprintf("GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", *name)
	if *plain {
		conn, err := net.Dial("tcp", *at)
		fail(err)
		io.WriteString(conn, request)
		answer, _ := io.ReadAll(conn)
		fmt.Println(strings.Fields(string(answer))[1])
		return
	}
	made := config()
	made.RootCAs, made.ServerName = roots(), *name
	if *alpn == "h2" {
		transport := &http.Transport{TLSClientConfig: made, ForceAttemptHTTP2: true}
		transport.DialTLSContext = nil
		answer, err := (&http.Client{Transport: transport}).Get("https://" + *at + "/")
		fail(err)
		_, err = io.ReadAll(answer.Body)
		fail(err)
		fmt.Println(said(answer.TLS.Version), answer.TLS.NegotiatedProtocol, answer.Proto, answer.StatusCode)
		return
	}
	made.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	resumed := 0
	for i := 0; i < *times; i++ {
		conn, err := tls.Dial("tcp", *at, made)
		fail(err)
		io.WriteString(conn, request)
		answer, err := io.ReadAll(conn) // an end without close_notify is an error
		fail(err)
		state := conn.ConnectionState()
		if state.DidResume {
			resumed++
		}
		if i == *times-1 {
			fmt.Println(said(state.Version), orNone(state.NegotiatedProtocol), strings.Fields(string(answer))[1],
				state.PeerCertificates[0].DNSNames[0], "resumed", resumed)
		}
		conn.Close()
	}
}

func orNone(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func answer(w http.ResponseWriter, r *http.Request) {
	who := "-"
	if len(r.TLS.PeerCertificates) > 0 {
		who = r.TLS.PeerCertificates[0].DNSNames[0]
	}
	resumed := "full"
	if r.TLS.DidResume {
		resumed = "resumed"
	}
	met := fmt.Sprintln(said(r.TLS.Version), orNone(r.TLS.NegotiatedProtocol), r.TLS.ServerName, who, resumed)
	end := strings.TrimPrefix(r.URL.Path, "/")
	if end == "once" {
		w.Header().Set("Connection", "close")
	}
	if end != "closed" && end != "torn" {
		io.WriteString(w, met)
		return
	}
	// Without a length: the end of the connection is that of the body.
	conn, _, err := w.(http.Hijacker).Hijack()
	fail(err)
	io.WriteString(conn, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"+met)
	if end == "torn" {
		conn.(*tls.Conn).NetConn().Close() // no close_notify
		return
	}
	conn.Close()
}

func serve() {
	made := config()
	if *client == "require" {
		made.ClientAuth, made.ClientCAs = tls.RequireAndVerifyClientCert, roots()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	fail(err)
	fmt.Println("listening", listener.Addr())
	server := &http.Server{Handler: http.HandlerFunc(answer), TLSConfig: made, ReadHeaderTimeout: 30 * time.Second}
	if !strings.Contains(*alpn, "h2") {
		server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
		server.Serve(tls.NewListener(listener, made))
		return
	}
	server.ServeTLS(listener, "", "")
}

func main() {
	role := os.Args[1]
	flag.CommandLine.Parse(os.Args[2:])
	if role == "server" {
		serve()
	} else {
		ask()
	}
}
