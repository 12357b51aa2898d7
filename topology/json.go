package topology

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"kafkagrpc/wire"
)

// JSON describes the topology for programs, indented. Keys are kebab-case and stable, durations are Go durations, sizes are in
// bytes, lists are never null, and no key material is in it.
func (t *Topology) JSON() ([]byte, error) {
	all := object{
		{"file", t.File},
		{"namespace", t.Namespace},
		{"listeners", each(t.Listeners, listenerJSON)},
		{"clusters", each(t.Clusters(), clusterJSON)},
		{"remotes", each(t.Remotes, remoteJSON)},
		{"methods", each(t.Methods.names(), t.Methods.json)},
		{"guards", optional(each(t.Guards, guardJSON))},
		{"collectors", optional(each(t.Telemetry.OTLP, collectorJSON))},
		{"registries", optional(each(t.Registries, registryJSON))},
		{"metrics", optional(each(t.Telemetry.Recorded, recordedJSON))},
		{"warnings", each(t.Warnings, problemJSON)},
	}
	if models := t.Models(); len(models) > 0 {
		all = append(all, member{"records", each(models, topicModelJSON)})
	}
	return json.MarshalIndent(all, "", "  ")
}

func topicModelJSON(t *TopicModel) object {
	model := func(m *Model) any { return m.String() }
	all := object{{"topic", t.Topic}, {"key", optional(each(t.Keys, model))}, {"value", optional(each(t.Values, model))}}
	if t.Key != nil {
		all = append(all, member{"extract-key", t.Key.Text})
	}
	if len(t.Headers) > 0 {
		all = append(all, member{"extract-headers", each(t.Headers, func(e Extraction) object { return object{{"name", e.Header}, {"from", e.Text}} })})
	}
	return all
}

func listenerJSON(l Listener) object {
	return object{
		{"binding", l.Binding},
		{"host", l.Host},
		{"port", l.Port},
		{"clients", optional(each(l.Clients, netip.Prefix.String))},
		{"tls", serverTLSJSON(l.TLS)},
		{"authorities", optional(l.Authorities)},
		{"headers", optional(each(l.Headers, headersJSON))},
		{"server", optionsJSON(l.Server)},
		{"browsers", browsersJSON(l.Browsers)},
		{"tokens", optional(each(l.Tokens, tokensJSON))},
		{"certificates", optional(list(l.Certificates))},
		{"routes", each(l.Routes, northJSON)},
	}
}

func browsersJSON(w *Browsers) any {
	if w == nil {
		return nil
	}
	policy := "cross-origin"
	if w.SameOrigin {
		policy = "same-origin"
	}
	return object{
		{"http1", w.HTTP1}, {"policy", policy}, {"origins", optional(w.Origins)}, {"headers", optional(w.Headers)}, {"expose", optional(w.Expose)},
		{"credentials", w.Credentials}, {"max-age", w.MaxAge.String()},
	}
}

func tokensJSON(s TokenSource) object {
	name := func(p TokenPlace) string { return p.Name }
	return object{{"guard", s.Guard}, {"headers", optional(each(s.Headers, name))}, {"cookies", optional(each(s.Cookies, name))}}
}

func headersJSON(all []HeaderPattern) []string { return each(all, HeaderPattern.shown) }

func serverTLSJSON(t *ServerTLS) any {
	if t == nil {
		return nil
	}
	return object{
		{"server-names", list(t.ServerNames)},
		{"alpn", list(t.ALPN)},
		{"certificates", each(t.Certificates, certificateJSON)},
		{"mutual", optional(t.mutual())},
		{"revocation", optional(revocationLists(t.VerifyConnection))},
	}
}

func clientTLSJSON(t *ClientTLS) any {
	if t == nil {
		return nil
	}
	return object{
		{"binding", t.Binding},
		{"server-name", optional(t.Config.ServerName)},
		{"certificates", each(t.Config.Certificates, certificateJSON)},
		{"revocation", optional(revocationLists(t.Config.VerifyConnection))},
	}
}

func certificateJSON(c tls.Certificate) object {
	return object{{"subject", c.Leaf.Subject.String()}, {"expires", c.Leaf.NotAfter.UTC()}}
}

func northJSON(r NorthRoute) object {
	all := object{
		{"binding", r.Binding},
		{"methods", r.Methods},
		{"metadata", optional(metadataNames(r.Metadata))},
		{"guarded", optional(each(r.Guarded, demandJSON))},
	}
	if r.Target != nil {
		return append(all, member{"target", targetJSON(*r.Target)})
	}
	if r.Fetch != nil {
		return append(all, object{{"cluster", r.Cluster.Binding}, {"topic", r.Topic}, {"fetch", r.Fetch.json()}}...)
	}
	return append(all, object{
		{"cluster", r.Cluster.Binding},
		{"topic", r.Topic},
		{"reply-to", r.ReplyTo},
		{"key", r.Key},
		{"overrides", headerNames(r.Overrides)},
		{"contract", contractJSON(r.Contract)},
	}...)
}

func targetJSON(t Target) object {
	if t.Scheme == Echo {
		return object{{"scheme", t.Scheme}, {"address", t.Address}}
	}
	return slices.Concat(object{
		{"scheme", t.Scheme},
		{"authority", t.Authority},
		{"address", t.Address},
		{"tls", clientTLSJSON(t.TLS)},
	}, optionsJSON(t), object{{"rate", t.rateJSON()}})
}

func demandJSON(d Demand) object { return object{{"guard", d.Guard}, {"roles", list(d.Roles)}} }

func guardJSON(g *Guard) object {
	all := object{{"name", g.Name}, {"type", g.Type()}}
	attributes := optional(each(g.attributes(), func(a Attribute) object { return object{{"name", a.Name}, {"from", a.From}} }))
	if x := g.X509; x != nil {
		return append(all, member{"identity", x.Identity}, member{"roles", list(x.roleNames())}, member{"attributes", attributes})
	}
	j := g.JWT
	return append(all, member{"issuer", optional(j.Issuer)}, member{"audience", optional(j.Audience)}, member{"keys", j.keysText()},
		member{"identity", j.Identity}, member{"roles", j.Roles}, member{"attributes", attributes})
}

func contractJSON(c wire.Contract) object {
	return object{
		{"service", c.Service},
		{"method", c.Method},
		{"reply-to", c.ReplyTo},
		{"correlation-id", c.CorrelationID},
		{"idempotency-metadata", c.IdempotencyMetadata},
		{"allow-metadata", list(c.AllowMetadata)},
	}
}

func clusterJSON(c *Cluster) object {
	all := object{
		{"binding", c.Binding},
		{"brokers", list(c.Brokers)},
		{"client-rack", optional(c.Rack)},
		{"tls", clientTLSJSON(c.TLS)},
		{"sasl", optional(c.mechanism())},
		{"guard", optional(c.guard())},
	}
	if s := c.SASL; s != nil && s.Endpoint.URL != "" {
		from, _, _ := strings.Cut(s.Endpoint.URL, "?")
		all = append(all, member{"token-endpoint", from})
	}
	if s := c.SASL; s != nil && s.Region != "" {
		all = append(all, member{"region", s.Region})
	}
	return all
}

func remoteJSON(r Remote) object {
	return slices.Concat(object{
		{"binding", r.Binding},
		{"group", r.Group},
		{"cluster", r.Cluster.Binding},
		{"inputs", list(r.Inputs())},
		{"outputs", list(r.Outputs())},
		{"table", r.Table},
		{"loop", r.Loop},
		{"dead-letter", r.Processing.DeadLetter},
	}, optionsJSON(r), object{
		{"processing", optionsJSON(r.Processing)},
		{"contract", contractJSON(r.Contract)},
		{"routes", each(r.Routes, remoteRouteJSON)},
	})
}

func remoteRouteJSON(r RemoteRoute) object {
	target := targetJSON(r.Target)
	return slices.Concat(object{
		{"topic", r.Topic},
		{"reply-to", r.ReplyTo},
		{"key", optional(string(r.Key))},
		{"headers", optional(headerNames(r.Headers))},
		{"metadata", optional(metadataNames(r.Metadata))},
		{"methods", r.Methods},
	}, target[:4], object{{"event", r.Event.json()}}, target[4:])
}

func (t Target) rateJSON() any {
	if t.RateCalls == 0 {
		return nil
	}
	return object{{"calls", t.RateCalls}, {"per", t.RatePer.String()}, {"burst", t.RateBurst}}
}

func (e *Event) json() any {
	if e == nil {
		return nil
	}
	unknown := "refuse"
	if e.Request.IgnoreUnknown {
		unknown = "ignore"
	}
	all := object{
		{"method", e.Method},
		{"request", append(e.Request.json(), member{"unknown-fields", unknown})},
		{"tombstones", e.Tombstones},
		{"idempotency-key", e.keyText()},
		{"metadata", optional(each(e.Metadata, func(m EventMetadata) string { return m.Name }))},
	}
	if e.Reply.Name != "" {
		all = append(all, member{"reply", e.Reply.json()})
	}
	return all
}

func (e Encoding) json() object {
	all := object{{"encoding", e.Name}}
	if e.Registry != nil {
		all = append(all, member{"registry", e.Registry.Catalog})
		if e.Schema != (SchemaRef{}) {
			all = append(all, member{"schema", e.Schema.String()})
		}
	}
	return all
}

func (ms Methods) json(name string) object {
	return object{{"name", name}, {"client-streams", ms[name].ClientStreams}, {"server-streams", ms[name].ServerStreams}}
}

func collectorJSON(o OTLP) object {
	all := object{{"exporter", o.Name}, {"traces", optional(withoutLogin(o.Traces))}, {"metrics", optional(withoutLogin(o.Metrics))}, {"authorization", o.Authorization != ""}}
	if o.TLS != nil {
		all = append(all, member{"certificates", each(o.TLS.Certificates, certificateJSON)}, member{"revocation", optional(revocationLists(o.TLS.VerifyConnection))})
	}
	return all
}

func recordedJSON(r Recorded) object { return object{{"binding", r.Binding}, {"names", r.Names}} }

func problemJSON(p Problem) object {
	return object{{"file", p.File}, {"line", p.Line}, {"column", p.Column}, {"message", p.Message}}
}

// headerNames are what is told of headers: a value may be a secret of the environment.
func headerNames(headers []wire.Header) []string {
	return each(headers, func(h wire.Header) string { return h.Name })
}

// object is a mapping whose members keep their order. Those that are nil are left out.
type object []member

type member struct {
	key   string
	value any
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for _, m := range o {
		if m.value == nil {
			continue
		}
		one, err := json.Marshal(map[string]any{m.key: m.value}) // {"key":value}
		if err != nil {
			return nil, err
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.Write(one[1 : len(one)-1])
	}
	return slices.Concat([]byte{'{'}, b.Bytes(), []byte{'}'}), nil
}

// optional is nil for an empty text or list.
func optional(v any) any {
	if reflect.ValueOf(v).Len() == 0 {
		return nil
	}
	return v
}

// each is never nil.
func each[T, U any](all []T, of func(T) U) []U {
	out := make([]U, len(all))
	for i, v := range all {
		out[i] = of(v)
	}
	return out
}

func list(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}
