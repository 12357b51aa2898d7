// Package topology turns a zilla.yaml into a validated, flat description of what runs: the listeners and
// north routes, the Kafka clusters, the remote routes with their targets, and the names of the consumer
// group, its inputs, outputs, table, loop and dead-letter topics.
//
// It knows nothing of Kafka clients, stream processors or sockets: it reads files (the configuration, the
// protos, the keystores) and environment variables, and opens no connection.
package topology

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

// Topology is the meaning of one configuration file. It is read-only after Load and safe for concurrent use.
type Topology struct {
	File      string // the path as it was given
	Namespace string // `name` of the file
	Listeners []Listener
	Remotes   []Remote
	Methods   Methods // of all subjects of all catalogs
	Protos    Protos  // what the catalogs are made of
	Telemetry Telemetry
	Warnings  []Problem // sorted by position: keys without effect here, and what is likely a mistake
}

// Listener is one TCP port that accepts gRPC calls.
type Listener struct {
	Binding string // name of the tcp server binding
	Host    string
	Port    int
	TLS     *ServerTLS // nil: plaintext HTTP/2 (h2c)
	GRPC    string     // name of the grpc server binding
	Server  Server
	Routes  []NorthRoute
}

// Address is host:port.
func (l Listener) Address() string { return net.JoinHostPort(l.Host, strconv.Itoa(l.Port)) }

// ServerTLS is what a listener presents to its clients.
type ServerTLS struct {
	Certificates []tls.Certificate // in the order of `keys`
	ServerNames  []string          // `sni`; empty: any name
	ALPN         []string          // always h2 alone: gRPC needs HTTP/2

	ClientAuth tls.ClientAuthType // `mutual`
	ClientCAs  *x509.CertPool     // whose clients are let in; nil where none are asked

	// Renew answers what the stores on disk say now, or nil as long as they have not changed. A change that cannot be
	// read is told once, and tried again at the next change. Safe for concurrent use; nil where there is no store.
	Renew func() (*ServerTLS, error)
}

// ClientTLS is how connections that go through a tls client binding are secured. There is one for each binding.
type ClientTLS struct {
	Binding string
	Config  *tls.Config `json:"-"` // read-only, and holds keys. ServerName is `sni`, "" for the host that is connected to
}

// SASL is how a Kafka client names itself.
type SASL struct {
	Mechanism string // plain, scram-sha-256 or scram-sha-512
	Username  string
	Password  Secret
}

// Secret is a text that shows nowhere by accident: formatted, logged or encoded it is three stars.
type Secret string

func (Secret) String() string               { return "***" }
func (Secret) GoString() string             { return "***" }
func (Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// NorthRoute produces the calls of some methods to a request topic. The first route that matches is taken.
type NorthRoute struct {
	Binding   string          // name of the grpc-kafka binding
	Methods   []MethodPattern // all of them must match: one per `when` on the way (grpc server, grpc-kafka)
	Cluster   *Cluster
	Topic     string
	ReplyTo   string        // "" for a one-way route
	Key       string        // of the records; "": the correlation id
	Overrides []wire.Header // the first headers of each record
	Contract  wire.Contract
}

// Matches reports whether the route takes a method, given as "package.Service/Method".
func (r NorthRoute) Matches(method string) bool {
	return allMatch(r.Methods, method)
}

// Names reports whether the route takes methods of a service because it is meant to, and not because it takes every
// service.
func (r NorthRoute) Names(service string) bool {
	named := false
	for _, p := range r.Methods {
		of, _, _ := strings.Cut(string(p), "/")
		if p != "*" && of != service {
			return false
		}
		named = named || p != "*"
	}
	return named
}

// Cluster is one Kafka cluster, as a kafka client binding names it.
type Cluster struct {
	Binding string // name of the kafka client binding
	Brokers []string
	TLS     *ClientTLS // nil: plaintext
	SASL    *SASL      // nil: none
}

// Remote is one kafka-grpc remote_server binding: a consumer group that calls services.
type Remote struct {
	Binding    string
	Group      string // <namespace>-<binding>
	Table      string // <group>-table, the changelog of processed idempotency keys
	Loop       string // <group>-loop, for records that must be re-keyed
	Cluster    *Cluster
	Routes     []RemoteRoute
	Contract   wire.Contract
	Processing Processing
	Expiry     time.Duration // how long a result answers its key, default 24h
	MaxResult  int           // bytes of a result that a row may hold, default 900KiB
}

// Inputs are the request topics of all routes, each once, in the order of the file.
func (r Remote) Inputs() []string {
	return distinct(r.Routes, func(t RemoteRoute) string { return t.Topic })
}

// Outputs are the reply topics of all routes, each once, in the order of the file.
func (r Remote) Outputs() []string {
	return distinct(r.Routes, func(t RemoteRoute) string { return t.ReplyTo })
}

func distinct(routes []RemoteRoute, name func(RemoteRoute) string) []string {
	var names []string
	seen := map[string]bool{}
	for _, r := range routes {
		if n := name(r); n != "" && !seen[n] {
			seen[n] = true
			names = append(names, n)
		}
	}
	return names
}

// RemoteRoute calls one target for the requests of one topic. The first route that matches is taken.
type RemoteRoute struct {
	Topic   string
	ReplyTo string
	Key     []byte          // of the record, as it is on the topic; nil: any
	Headers []wire.Header   // each must be among the record's
	Methods []MethodPattern // all of them must match: one per `when` on the way (kafka-grpc, grpc client)
	GRPC    string          // name of the grpc client binding
	Target  Target
}

// Matches reports whether the route takes a request record of a method, given as "package.Service/Method".
func (r RemoteRoute) Matches(method string, record wire.Record) bool {
	if r.Key != nil && (record.Key == nil || !bytes.Equal(r.Key, record.Key)) {
		return false
	}
	for _, want := range r.Headers {
		if !slices.ContainsFunc(record.Headers, func(h wire.Header) bool { return h.Name == want.Name && bytes.Equal(h.Value, want.Value) }) {
			return false
		}
	}
	return allMatch(r.Methods, method)
}

// Target is a gRPC service. Equal targets share one connection.
type Target struct {
	Scheme    string     // http, or https where TLS is set
	Authority string     // the :authority that calls carry
	Address   string     // host:port to connect to
	TLS       *ClientTLS // nil: plaintext HTTP/2 (h2c)

	MaxMessage  int    // bytes, in either direction, default 4 MiB
	Compression string // of request messages: "" or "gzip"
}

// Processing bounds the work of a remote binding.
type Processing struct {
	MaxInFlight      int // requests per partition, default 1000
	MaxInFlightBytes int // of their records, per partition, default 64 MiB

	// The same for all partitions of a process; of several remotes in one process the smallest counts.
	MaxInFlightTotal      int // default 10000
	MaxInFlightTotalBytes int // default 256 MiB

	Timeout    time.Duration // of each attempt of a call that carries no deadline, default 30s; 0: none, StreamIdle bounds it
	StreamIdle time.Duration // after which a stream without messages either way ends, and a call without a deadline, default 5m
	Drain      time.Duration // what calls in flight get when a partition is given up, default 10s
	MaxAge     time.Duration // of a request that no call was made for; older ones become dead letters; 0, the default: none is too old
	RetryCodes []codes.Code  // results with these codes do not become final, default UNAVAILABLE
	DeadLetter string        // topic, default <group>-dead-letters

	// Attempts that end with one of RetryCodes are made again.
	RetryInitial    time.Duration // longest pause after the first attempt, which doubles, default 50ms
	RetryMax        time.Duration // up to this, default 10s
	RetryMaxElapsed time.Duration // no attempt begins after this, default 10m; time held by the breaker does not count

	BreakerFailures int           // failed attempts in a row that open the breaker of a target, default 20
	BreakerOpen     time.Duration // how long no call is made then, default 5s

	Standby bool // each instance also keeps copies of the partitions that it does not own
}
