package topology

import (
	"crypto/tls"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"kafkagrpc/wire"
)

// Telemetry is what the file says about telemetry. The OTEL_* variables come before it.
type Telemetry struct {
	Attributes []wire.Field // of the resource, in the order of the file
	Stdout     bool         // an event is printed for each call
	OTLP       []OTLP
	Prometheus []PrometheusEndpoint
	Recorded   []Recorded // in the order of the file; empty: no binding selects any
}

// OTLP is a collector. The URLs are "" for signals that it does not get.
type OTLP struct {
	Name            string // of the exporter
	GRPC            bool   // else HTTP
	Traces, Metrics string
	Interval        time.Duration // of the metrics, default 30s
	TLS             *tls.Config   // of https; nil: the default. Read-only
	Authorization   Secret        // the header of this name; "": none
}

// PrometheusEndpoint is where the file wants the metrics to be read.
type PrometheusEndpoint struct {
	Name string // of the exporter
	Port int
	Path string // default /metrics
}

// telemetry compiles the telemetry of the file.
func (c *compiler) telemetry() Telemetry {
	var t Telemetry
	for _, a := range c.doc.Telemetry.Attributes {
		t.Attributes = append(t.Attributes, wire.Field{Name: a.name.value, Value: a.value.value})
	}
	for _, e := range c.doc.Telemetry.Exporters {
		switch spec := e.value.spec.(type) {
		case *stdoutExporter:
			t.Stdout = true
		case *otlpExporter:
			t.OTLP = append(t.OTLP, c.otlp(e.name.value, e.value, spec))
		case *prometheusExporter:
			for _, p := range spec.Options.Endpoints {
				t.Prometheus = append(t.Prometheus, c.prometheus(e.name.value, p))
			}
		}
	}
	t.Recorded = c.recorded()
	return t
}

func (c *compiler) otlp(name string, e exporter, spec *otlpExporter) OTLP {
	o := OTLP{
		Name: name, GRPC: spec.Options.Endpoint.Protocol.value == "grpc", Interval: time.Duration(spec.Options.Interval) * time.Second,
		Authorization: Secret(spec.Options.Credentials.value),
	}
	location := spec.Options.Endpoint.Location
	if s := &spec.Options.TLS; s.given {
		o.TLS = c.outwardTLS(e.spot, spec.Vault, &s.outward)
	} else if spec.Vault.ok {
		c.report.warn(spec.Vault.position, "%s has no effect without `options.tls`, which names what of it is meant", spec.Vault.place)
	}
	if !location.given {
		c.report.problem(e.at, "%s has no `options.endpoint.location`; add the address of the collector, such as http://localhost:4318", e.place)
		return o
	}
	if !location.ok {
		return o
	}
	wants := func(signal string) bool {
		for _, s := range spec.Options.Signals {
			if s.value == signal {
				return true
			}
		}
		return len(spec.Options.Signals) == 0
	}
	for _, s := range spec.Options.Signals {
		if s.value == "logs" {
			c.report.warn(s.position, "%s: logs are written to standard error, not exported", s.place)
		}
	}
	overrides := spec.Options.Endpoint.Overrides
	if wants("traces") {
		o.Traces = c.collector(location, overrides.Traces, "/v1/traces", o.GRPC)
	}
	if wants("metrics") {
		o.Metrics = c.collector(location, overrides.Metrics, "/v1/metrics", o.GRPC)
	}
	c.insecure(e, spec, o)
	return o
}

// insecure looks at what is not to be sent in the clear.
func (c *compiler) insecure(e exporter, spec *otlpExporter, o OTLP) {
	for _, signal := range []string{o.Traces, o.Metrics} {
		if !strings.HasPrefix(signal, "http:") {
			continue
		}
		location := spec.Options.Endpoint.Location
		if o.TLS != nil {
			c.report.problem(location.position, "%s is http, but %s has `options.tls`; make it https", location.place, e.place)
		}
		if spec.Options.Credentials.ok {
			c.report.warn(spec.Options.Credentials.position, "%s: to an http address it is sent in the clear; use https", spec.Options.Credentials.place)
		}
	}
}

// collector is the URL for a signal.
func (c *compiler) collector(location, override text, path string, grpc bool) string {
	at := location
	if override.ok {
		at = override
	}
	base, err := url.Parse(location.value)
	if err == nil && override.ok {
		base, err = base.Parse(override.value)
	} else if err == nil && !grpc {
		base = base.JoinPath(path)
	}
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		c.report.problem(at.position, "%s must be an URL of a collector, such as http://localhost:4318, not `%s`", at.place, withoutLogin(at.raw))
		return ""
	}
	return base.String()
}

// rows tell where signals go, without what lets them in.
func (o OTLP) rows() (rows [][]string) {
	var how []string
	if o.TLS != nil && len(o.TLS.Certificates) > 0 {
		how = append(how, "mutual TLS")
	}
	if o.Authorization != "" {
		how = append(how, "authorization")
	}
	for _, signal := range []struct{ name, url string }{{"traces", o.Traces}, {"metrics", o.Metrics}} {
		if signal.url != "" {
			rows = append(rows, []string{o.Name, signal.name + " -> " + withoutLogin(signal.url), strings.Join(how, ", ")})
		}
	}
	return rows
}

// withoutLogin is an address that may be shown.
func withoutLogin(url string) string { return login.ReplaceAllString(url, "//***@") }

// login is the user and the password of an address, which no message repeats.
var login = regexp.MustCompile(`//[^/]*@`)

func (c *compiler) prometheus(name string, p prometheusEndpoint) PrometheusEndpoint {
	out := PrometheusEndpoint{Name: name, Path: "/metrics"}
	if p.Port.ok {
		n, err := strconv.Atoi(p.Port.value)
		if err != nil || n < 1 || n > 65535 {
			c.report.problem(p.Port.position, "%s must be a port from 1 to 65535, not `%s`", p.Port.place, p.Port.raw)
		}
		out.Port = n
	}
	if p.Path.ok {
		if out.Path = p.Path.value; !strings.HasPrefix(out.Path, "/") || strings.ContainsAny(out.Path, " {}") {
			c.report.problem(p.Path.position, "%s must be a path such as /metrics, not `%s`", p.Path.place, p.Path.raw)
		}
	}
	return out
}
