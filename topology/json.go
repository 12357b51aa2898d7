package topology

import (
	"crypto/tls"
	"encoding/json"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

// The structs of this file are the stable form of a topology in JSON: kebab-case keys, durations as Go durations,
// sizes in bytes, lists never null, no key material.

type topologyJSON struct {
	File      string         `json:"file"`
	Namespace string         `json:"namespace"`
	Listeners []listenerJSON `json:"listeners"`
	Clusters  []clusterJSON  `json:"clusters"`
	Remotes   []remoteJSON   `json:"remotes"`
	Methods   []methodJSON   `json:"methods"`
	Metrics   []recordedJSON `json:"metrics,omitempty"` // that bindings record under the names of the file
	Warnings  []problemJSON  `json:"warnings"`
}

type listenerJSON struct {
	Binding string      `json:"binding"`
	Host    string      `json:"host"`
	Port    int         `json:"port"`
	TLS     *tlsJSON    `json:"tls,omitempty"`
	Server  serverJSON  `json:"server"`
	Routes  []northJSON `json:"routes"`
}

type serverJSON struct {
	MaxMessage            int    `json:"max-message"`
	MaxConcurrentStreams  int    `json:"max-concurrent-streams"`
	MaxConnectionAge      string `json:"max-connection-age"`
	MaxConnectionAgeGrace string `json:"max-connection-age-grace"`
	KeepaliveTime         string `json:"keepalive-time"`
	KeepaliveTimeout      string `json:"keepalive-timeout"`
	KeepaliveMinTime      string `json:"keepalive-min-time"`
}

type tlsJSON struct {
	ServerNames  []string          `json:"server-names"`
	ALPN         []string          `json:"alpn"`
	Certificates []certificateJSON `json:"certificates"`
	Mutual       string            `json:"mutual,omitempty"` // required or requested
}

type certificateJSON struct {
	Subject string    `json:"subject"`
	Expires time.Time `json:"expires"`
}

type northJSON struct {
	Binding   string          `json:"binding"`
	Methods   []MethodPattern `json:"methods"`
	Cluster   string          `json:"cluster"`
	Topic     string          `json:"topic"`
	ReplyTo   string          `json:"reply-to"`
	Key       string          `json:"key"`
	Overrides []string        `json:"overrides"` // names alone: a value may be a secret of the environment
	Contract  contractJSON    `json:"contract"`
}

type contractJSON struct {
	Service             string   `json:"service"`
	Method              string   `json:"method"`
	ReplyTo             string   `json:"reply-to"`
	CorrelationID       string   `json:"correlation-id"`
	IdempotencyMetadata string   `json:"idempotency-metadata"`
	AllowMetadata       []string `json:"allow-metadata"`
}

type clusterJSON struct {
	Binding string         `json:"binding"`
	Brokers []string       `json:"brokers"`
	TLS     *clientTLSJSON `json:"tls,omitempty"`
	SASL    string         `json:"sasl,omitempty"` // the mechanism
}

type clientTLSJSON struct {
	Binding      string            `json:"binding"`
	ServerName   string            `json:"server-name,omitempty"`
	Certificates []certificateJSON `json:"certificates"`
}

type remoteJSON struct {
	Binding    string            `json:"binding"`
	Group      string            `json:"group"`
	Cluster    string            `json:"cluster"`
	Inputs     []string          `json:"inputs"`
	Outputs    []string          `json:"outputs"`
	Table      string            `json:"table"`
	Loop       string            `json:"loop"`
	DeadLetter string            `json:"dead-letter"`
	Expiry     string            `json:"expiry"`
	MaxResult  int               `json:"max-result"`
	Processing processingJSON    `json:"processing"`
	Contract   contractJSON      `json:"contract"`
	Routes     []remoteRouteJSON `json:"routes"`
}

type processingJSON struct {
	MaxInFlight           int      `json:"max-in-flight"`
	MaxInFlightBytes      int      `json:"max-in-flight-bytes"`
	MaxInFlightTotal      int      `json:"max-in-flight-total"`
	MaxInFlightTotalBytes int      `json:"max-in-flight-total-bytes"`
	Timeout               string   `json:"timeout"`
	StreamIdle            string   `json:"stream-idle"`
	Drain                 string   `json:"drain"`
	MaxAge                string   `json:"max-age,omitempty"`
	RetryCodes            []string `json:"retry-codes"`

	RetryInitial    string `json:"retry-initial"`
	RetryMax        string `json:"retry-max"`
	RetryMaxElapsed string `json:"retry-max-elapsed"`
	BreakerFailures int    `json:"breaker-failures"`
	BreakerOpen     string `json:"breaker-open"`

	Standby bool `json:"standby"`
}

type remoteRouteJSON struct {
	Topic       string          `json:"topic"`
	ReplyTo     string          `json:"reply-to"`
	Key         string          `json:"key,omitempty"`
	Headers     []string        `json:"headers,omitempty"` // names alone: a value may be a secret of the environment
	Methods     []MethodPattern `json:"methods"`
	Scheme      string          `json:"scheme"`
	Authority   string          `json:"authority"`
	Address     string          `json:"address"`
	TLS         *clientTLSJSON  `json:"tls,omitempty"`
	MaxMessage  int             `json:"max-message"`
	Compression string          `json:"compression,omitempty"`
}

type methodJSON struct {
	Name          string `json:"name"`
	ClientStreams bool   `json:"client-streams"`
	ServerStreams bool   `json:"server-streams"`
}

type recordedJSON struct {
	Binding string   `json:"binding"`
	Names   []string `json:"names"`
}

type problemJSON struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
}

// JSON describes the topology for programs, indented. Keys are kebab-case and stable; no key material is in it.
func (t *Topology) JSON() ([]byte, error) {
	j := topologyJSON{
		File: t.File, Namespace: t.Namespace, Listeners: []listenerJSON{}, Clusters: []clusterJSON{},
		Remotes: []remoteJSON{}, Methods: []methodJSON{}, Warnings: []problemJSON{},
	}
	for _, l := range t.Listeners {
		lj := listenerJSON{Binding: l.Binding, Host: l.Host, Port: l.Port, TLS: tlsOf(l.TLS), Server: serverJSONOf(l.Server), Routes: []northJSON{}}
		for _, r := range l.Routes {
			lj.Routes = append(lj.Routes, northJSON{
				r.Binding, r.Methods, r.Cluster.Binding, r.Topic, r.ReplyTo, r.Key, headerNames(r.Overrides), contractOf(r.Contract),
			})
		}
		j.Listeners = append(j.Listeners, lj)
	}
	for _, c := range t.Clusters() {
		j.Clusters = append(j.Clusters, clusterJSON{c.Binding, list(c.Brokers), clientTLSOf(c.TLS), c.mechanism()})
	}
	for _, r := range t.Remotes {
		j.Remotes = append(j.Remotes, remoteOf(r))
	}
	for _, name := range t.Methods.names() {
		m := t.Methods[name]
		j.Methods = append(j.Methods, methodJSON{name, m.ClientStreams, m.ServerStreams})
	}
	for _, r := range t.Telemetry.Recorded {
		j.Metrics = append(j.Metrics, recordedJSON(r))
	}
	for _, p := range t.Warnings {
		j.Warnings = append(j.Warnings, problemJSON{p.File, p.Line, p.Column, p.Message})
	}
	return json.MarshalIndent(j, "", "  ")
}

func serverJSONOf(s Server) serverJSON {
	return serverJSON{
		s.MaxMessage, s.MaxConcurrentStreams, s.MaxConnectionAge.String(), s.MaxConnectionAgeGrace.String(),
		s.KeepaliveTime.String(), s.KeepaliveTimeout.String(), max(s.KeepaliveMinTime, 0).String(),
	}
}

// boundText is a duration that may be none, as the file writes it.
func boundText(d time.Duration) string {
	if d == 0 {
		return "none"
	}
	return d.String()
}

func headerNames(headers []wire.Header) []string {
	names := make([]string, len(headers))
	for i, h := range headers {
		names[i] = h.Name
	}
	return names
}

func tlsOf(t *ServerTLS) *tlsJSON {
	if t == nil {
		return nil
	}
	return &tlsJSON{ServerNames: list(t.ServerNames), ALPN: list(t.ALPN), Certificates: certificatesOf(t.Certificates), Mutual: t.mutual()}
}

func clientTLSOf(t *ClientTLS) *clientTLSJSON {
	if t == nil {
		return nil
	}
	return &clientTLSJSON{t.Binding, t.Config.ServerName, certificatesOf(t.Config.Certificates)}
}

func certificatesOf(all []tls.Certificate) []certificateJSON {
	out := []certificateJSON{}
	for _, c := range all {
		out = append(out, certificateJSON{c.Leaf.Subject.String(), c.Leaf.NotAfter.UTC()})
	}
	return out
}

func contractOf(c wire.Contract) contractJSON {
	return contractJSON{c.Service, c.Method, c.ReplyTo, c.CorrelationID, c.IdempotencyMetadata, list(c.AllowMetadata)}
}

func remoteOf(r Remote) remoteJSON {
	j := remoteJSON{
		Binding: r.Binding, Group: r.Group, Cluster: r.Cluster.Binding, Inputs: list(r.Inputs()), Outputs: list(r.Outputs()),
		Table: r.Table, Loop: r.Loop, DeadLetter: r.Processing.DeadLetter, Expiry: r.Expiry.String(), MaxResult: r.MaxResult,
		Processing: processingJSON{
			MaxInFlight: r.Processing.MaxInFlight, MaxInFlightBytes: r.Processing.MaxInFlightBytes,
			MaxInFlightTotal: r.Processing.MaxInFlightTotal, MaxInFlightTotalBytes: r.Processing.MaxInFlightTotalBytes,
			Timeout: boundText(r.Processing.Timeout), StreamIdle: r.Processing.StreamIdle.String(), Drain: r.Processing.Drain.String(),
			RetryCodes: []string{},

			RetryInitial: r.Processing.RetryInitial.String(), RetryMax: r.Processing.RetryMax.String(),
			RetryMaxElapsed: r.Processing.RetryMaxElapsed.String(),
			BreakerFailures: r.Processing.BreakerFailures, BreakerOpen: r.Processing.BreakerOpen.String(),

			Standby: r.Processing.Standby,
		},
		Contract: contractOf(r.Contract), Routes: []remoteRouteJSON{},
	}
	if r.Processing.MaxAge > 0 {
		j.Processing.MaxAge = r.Processing.MaxAge.String()
	}
	for _, c := range r.Processing.RetryCodes {
		j.Processing.RetryCodes = append(j.Processing.RetryCodes, codeName(c))
	}
	for _, route := range r.Routes {
		j.Routes = append(j.Routes, remoteRouteJSON{
			route.Topic, route.ReplyTo, string(route.Key), route.headerNames(), route.Methods,
			route.Target.Scheme, route.Target.Authority, route.Target.Address,
			clientTLSOf(route.Target.TLS), route.Target.MaxMessage, route.Target.Compression,
		})
	}
	return j
}

// codeName is the name of a code as a configuration writes it.
func codeName(c codes.Code) string {
	if c == codes.Canceled {
		return "canceled" // either spelling is read
	}
	return hyphened(wire.StatusName(c))
}

func list(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}
