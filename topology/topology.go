// Package topology turns a zilla.yaml into a validated, flat description of what runs: the listeners and
// north routes, the Kafka clusters, the remote routes with their targets, and the names of the consumer
// group, its inputs, outputs, table, loop and dead-letter topics.
//
// It knows nothing of Kafka clients, stream processors or sockets: it reads files (the configuration, the
// protos, the keystores) and environment variables, and opens no connection.
package topology

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"kafkagrpc/wire"
)

// Topology is the meaning of one configuration file. It is read-only after Load and safe for concurrent use.
type Topology struct {
	File       string // the path as it was given
	Namespace  string // `name` of the file
	Listeners  []Listener
	Remotes    []Remote
	Methods    Methods // of all subjects of all catalogs
	Protos     Protos  // what the catalogs are made of
	Registries []*Registry
	Guards     []*Guard // that tell who calls, and that a route wants

	RegistryProtos []ProtoOfRegistry // that the catalogs are made of, too
	Telemetry      Telemetry
	Warnings       []Problem // sorted by position: keys without effect here, and what is likely a mistake

	said map[place]mention
}

// Listener is one TCP port that accepts gRPC calls.
type Listener struct {
	Binding string // name of the tcp server binding
	Host    string
	Port    int
	Clients []netip.Prefix // whose connections are accepted; none: all
	TLS     *ServerTLS     // nil: plaintext HTTP/2 (h2c)
	GRPC    string         // name of the grpc server binding
	Server  Server
	Routes  []NorthRoute

	Browsers     *Browsers     // that may call, too; nil: none
	Tokens       []TokenSource // where callers send what guards of type jwt look at
	Certificates []string      // guards that look at the certificate of the connection

	Authorities []string          // names of which clients must ask for one (SNI); none: any
	Headers     [][]HeaderPattern // of calls that are taken, one of these; none: all
}

// Address is host:port.
func (l Listener) Address() string { return net.JoinHostPort(l.Host, strconv.Itoa(l.Port)) }

// ServerTLS is what a listener presents to its clients.
type ServerTLS struct {
	Certificates []tls.Certificate // in the order of `keys`
	ServerNames  []string          // `sni`; empty: any name
	ALPN         []string          // h2, and where browsers may speak it http/1.1

	ClientAuth tls.ClientAuthType // `mutual`
	ClientCAs  *x509.CertPool     // whose clients are let in; nil where none are asked

	// VerifyConnection refuses clients whose certificate was revoked; nil where lists of those are not asked for.
	VerifyConnection func(tls.ConnectionState) error

	// Renew answers what the stores on disk say now, or nil as long as they have not changed. A change that cannot be
	// read is told once, and tried again at the next change. Safe for concurrent use; nil where there is no store.
	Renew func() (*ServerTLS, error)
}

// ClientTLS is how connections that go through a tls client binding are secured. There is one for each binding.
type ClientTLS struct {
	Binding string
	Config  *tls.Config `json:"-"` // read-only, and holds keys. ServerName is `sni`, "" for the host that is connected to

	renewed atomic.Pointer[tls.Config] // nil: Config counts
}

// Now is the configuration of connections from now on: that of the start, or what has replaced it.
func (t *ClientTLS) Now() *tls.Config {
	if renewed := t.renewed.Load(); renewed != nil {
		return renewed
	}
	return t.Config
}

// Renew replaces the configuration for those who ask for Now.
func (t *ClientTLS) Renew(c *tls.Config) { t.renewed.Store(c) }

// SASL is how a Kafka client names itself.
type SASL struct {
	Guard     string // that knows the name and the password; "": the file has them in place
	Mechanism string // plain, scram-sha-256, scram-sha-512, oauthbearer or aws-msk-iam
	Username  string
	Password  Secret

	Token    Secret        // of oauthbearer, the same for ever
	Endpoint TokenEndpoint // of oauthbearer; its zero value: the token is that
	Region   string        // of aws-msk-iam
}

// TokenEndpoint gives tokens to a client that has a secret, by OAuth 2.0 client credentials.
type TokenEndpoint struct {
	URL             string
	ClientID        string
	ClientSecret    Secret
	Scope, Audience string
}

// Secret is a text that shows nowhere by accident: formatted, logged or encoded it is three stars.
type Secret string

func (Secret) String() string               { return "***" }
func (Secret) GoString() string             { return "***" }
func (Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// NorthRoute produces the calls of some methods to a request topic, or passes them on to a service. The first route that matches is taken.
type NorthRoute struct {
	Binding  string          // name of the grpc-kafka binding, or of the grpc client binding
	Methods  []MethodPattern // all of them must match: one per `when` on the way (grpc server, then grpc-kafka or grpc client)
	Metadata wire.Metadata   // all of it must be there, too: see Takes
	Guarded  []Demand        // and the caller must be known to each guard, and have the roles

	Target *Target // of a route to a service, which has nothing of what follows; nil: of a route to a topic

	Cluster   *Cluster
	Topic     string
	ReplyTo   string        // "" for a one-way route
	Key       string        // of the records; "": the correlation id
	Overrides []wire.Header // the first headers of each record
	Contract  wire.Contract

	Fetch   *Fetch        // of a route that reads its topic, which writes nothing; nil: of one that writes requests
	Callers []CallerValue // what of Key and Overrides depends on who calls: see Fill

	Requests, Replies *TopicModel // what the records of the topics have to be like; nil: anything
}

// Matches reports whether the route takes a method, given as "package.Service/Method", of a call with the metadata that it wants.
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
	Rack    string     // of this instance: what is read comes from a replica in the same one, where the brokers allow it; "": from the leader
	TLS     *ClientTLS // nil: plaintext
	SASL    *SASL      // nil: none
}

// Remote is one kafka-grpc remote_server binding: a consumer group that calls services.
type Remote struct {
	Binding  string
	Group    string // <namespace>-<binding>
	Table    string // <group>-table, the changelog of processed idempotency keys
	Loop     string // <group>-loop, for records that must be re-keyed
	Cluster  *Cluster
	Routes   []RemoteRoute
	Contract wire.Contract

	Processing Processing    `yaml:"processing" doc:"bounds of the work"`
	Expiry     time.Duration `yaml:"table.expiry" is:"duration" default:"24h" json:"expiry" doc:"how long a result answers its key"`
	MaxResult  int           `yaml:"table.max-result" is:"size" default:"900KiB" json:"max-result" doc:"bytes of a result in the table"`
}

// Inputs are the request topics of all routes, each once, in the order of the file.
func (r Remote) Inputs() []string {
	return distinct(r.Routes, func(t RemoteRoute) string { return t.Topic })
}

// Outputs are the reply topics of all routes, each once, in the order of the file.
func (r Remote) Outputs() []string {
	return distinct(r.Routes, func(t RemoteRoute) string { return t.ReplyTo })
}

// distinct are the values that are not zero, each once.
func distinct[T any, V comparable](all []T, of func(T) V) (values []V) {
	var zero V
	seen := map[V]bool{zero: true}
	for _, t := range all {
		if v := of(t); !seen[v] {
			seen[v] = true
			values = append(values, v)
		}
	}
	return values
}

// RemoteRoute calls one target for the requests of one topic. The first route that matches is taken.
type RemoteRoute struct {
	Topic    string
	ReplyTo  string          // "": events are not replied to
	Key      []byte          // of the record, as it is on the topic; nil: any
	Headers  []wire.Header   // each must be among the record's
	Methods  []MethodPattern // all of them must match: one per `when` on the way (kafka-grpc, grpc client)
	Metadata wire.Metadata   // all of it must be among the record's
	GRPC     string          // name of the grpc client binding
	Target   Target
	Event    *Event // nil: the route is one of requests of the contract

	Requests, Replies *TopicModel // what the records of the topics have to be like; nil: anything
}

// Matches reports whether the route takes a request record of a method, given as "package.Service/Method".
func (r RemoteRoute) Matches(method string, record wire.Record) bool {
	if !(Filter{r.Key, r.Headers}).Takes(record) {
		return false
	}
	if slices.ContainsFunc(r.Metadata, func(f wire.Field) bool { return !has(record, f) }) {
		return false
	}
	return allMatch(r.Methods, method)
}
