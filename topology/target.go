package topology

import (
	"cmp"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Echo is the scheme of a target that answers each call with its own messages: an echo binding, whose name is the address.
const Echo = "echo"

// Target is a gRPC service. Equal targets share one connection.
type Target struct {
	Scheme    string     // http, or https where TLS is set; or Echo
	Authority string     // the :authority that calls carry
	Address   string     // host:port to connect to
	TLS       *ClientTLS // nil: plaintext HTTP/2 (h2c)

	MaxMessage int `yaml:"max-message" is:"size" default:"4MiB" doc:"bytes of a message, in either direction"`
	// The pace of the services of the grpc client, together, of this instance; 0: none.
	MaxInFlight int           `yaml:"max-in-flight" is:"count" json:",omitempty" doc:"calls at once, of this instance; without it, any number"`
	RateCalls   int           `yaml:"rate.calls" is:"count" json:"-" doc:"calls that begin in each period, of this instance, retries included; without it, any number"`
	RatePer     time.Duration `yaml:"rate.per" is:"duration" default:"1s" json:"-" doc:"the period"`
	RateBurst   int           `yaml:"rate.burst" is:"count" json:"-" doc:"calls that may begin at once after a rest; without it, as many as calls"`

	Compression string `yaml:"compression" is:"word" oneof:"identity gzip" json:",omitempty" doc:"of request messages"` // of request messages: "" or "gzip"
}

// Targets are the services of all routes, each once: those of the listeners, then those of the remotes.
func (t *Topology) Targets() []Target {
	var all []Target
	for _, l := range t.Listeners {
		for _, r := range l.Routes {
			if r.Target != nil && r.Target.Scheme != Echo {
				all = append(all, *r.Target)
			}
		}
	}
	for _, r := range t.Remotes {
		for _, route := range r.Routes {
			all = append(all, route.Target)
		}
	}
	return distinct(all, func(t Target) Target { return t })
}

// target is the service behind an http client, as a route names it. t has the options of the grpc client.
func (c *compiler) target(t Target, route kafkaGRPCRoute, http *binding) (Target, bool) {
	next := c.ahead(http)
	if next == nil {
		return Target{}, false
	}
	t.RateBurst = cmp.Or(t.RateBurst, t.RateCalls)
	if t.Compression == "identity" {
		t.Compression = ""
	}
	t.Scheme = "http"
	if through, ok := next.spec.(*tlsClient); ok {
		t.Scheme, t.TLS = "https", c.clientTLS(next, through)
		next = c.ahead(next)
		if next == nil {
			return Target{}, false
		}
	}
	// As in the original the bindings decide how a service is reached; a scheme that says otherwise is a mistake.
	switch scheme := route.With.Scheme; {
	case scheme.ok && scheme.value == "https" && t.TLS == nil:
		c.report.problem(scheme.position, "%s is https, but %s leads to %s without TLS; let it exit to a tls client", scheme.place, http.place, next.place)
		return Target{}, false
	case scheme.ok && scheme.value == "http" && t.TLS != nil:
		c.report.problem(scheme.position, "%s is http, but %s leads through a tls client; make it https", scheme.place, http.place)
		return Target{}, false
	}
	address, ok := c.serviceAddress(next)
	if !ok {
		return Target{}, false
	}
	t.Address, t.Authority = address, address
	if strings.HasPrefix(address, unixPrefix) {
		t.Authority = "localhost" // what gRPC sends where there is no host
	}
	if a, given := http.spec.(*httpClient).Options.Overrides.get(headerAuthority); given && a.ok {
		t.Authority = a.value
	}
	if a := route.With.Authority; a.given {
		t.Authority = a.value
	}
	return t, true
}

// pace reports what the options of a grpc client say of a rate that is none.
func (c *compiler) pace(spec *grpcClient) {
	t := &spec.Options.Target
	if c.texts[&t.RateCalls].given {
		return
	}
	for _, alone := range []text{c.texts[&t.RatePer], c.texts[&t.RateBurst]} {
		if alone.ok {
			c.report.problem(alone.position, "%s has no effect without `calls`; add it or remove this", alone.place)
		}
	}
}

// paceText says at what pace calls are made, "" at any.
func (t Target) paceText() (text string) {
	if t.MaxInFlight > 0 {
		text = fmt.Sprintf(", max-in-flight %d", t.MaxInFlight)
	}
	if t.RateCalls > 0 {
		text += fmt.Sprintf(", rate %d per %v, burst %d", t.RateCalls, t.RatePer, t.RateBurst)
	}
	return text
}

// serviceAddress is where a tcp client on the way to a service leads: host:port, or unix:PATH.
func (c *compiler) serviceAddress(tcp *binding) (string, bool) {
	o := tcp.spec.(*tcpClient).Options
	if o.Host.ok && strings.HasPrefix(o.Host.value, unixPrefix) {
		if len(o.Port) > 0 {
			c.report.problem(o.Port[0].position, "%s: a unix socket has no port; remove it", o.Port[0].place)
			return "", false
		}
		return o.Host.value, true
	}
	if !o.Host.given || len(o.Port) == 0 {
		c.report.problem(tcp.at, "%s is the way to a gRPC service, so it needs `options.host` and `options.port`", tcp.place)
		return "", false
	}
	if len(o.Port) != 1 || o.Port[0].low != o.Port[0].high {
		c.report.problem(o.Port[0].position, "%s must be one port: it is the way to one gRPC service", place{tcp.place.owner, "options.port"})
		return "", false
	}
	if !o.Host.ok || !o.Port[0].ok {
		return "", false
	}
	return net.JoinHostPort(o.Host.value, strconv.Itoa(o.Port[0].low)), true
}

// unixPrefix begins the host of a tcp client that is a unix socket.
const unixPrefix = "unix:"

// serviceHost is a host, or a unix socket as unix:/absolute/path.
type serviceHost struct{ host }

func (*serviceHost) regexp() string { return "^" + unixPrefix + "(//)?/|" + (&host{}).regexp() }

func (h *serviceHost) parse(value string) string {
	if path, ok := strings.CutPrefix(value, unixPrefix); ok {
		if path = strings.TrimPrefix(path, "//"); !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "\x00\r\n") {
			return "must name a unix socket by its absolute path, such as unix:/run/echo.sock"
		}
		h.text.value = unixPrefix + path
		return ""
	}
	return h.host.parse(value)
}
