package topology

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	"kafkagrpc/internal/texttable"
)

// Text describes the topology for people, in a few aligned lines. It holds no key material.
func (t *Topology) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: namespace %s\n", t.File, t.Namespace)
	section := func(title string, rows [][]string) {
		fmt.Fprintf(&b, "\n%s\n", title)
		for i := range rows {
			rows[i][0] = "  " + rows[i][0]
		}
		_ = texttable.Write(&b, rows, 0) // a builder takes all
	}
	if len(t.Listeners) > 0 {
		section("listeners", each(t.Listeners, func(l Listener) []string {
			return []string{l.Address(), transport(l.TLS) + l.Browsers.from() + l.asking() + l.from(), l.Binding}
		}))
		section("north routes", each(t.northRoutes(), NorthRoute.row))
	}
	if clusters := t.Clusters(); len(clusters) > 0 {
		section("Kafka clusters", each(clusters, func(c *Cluster) []string { return []string{c.Binding, strings.Join(c.Brokers, ", "), c.security()} }))
	}
	if len(t.Guards) > 0 {
		section("guards", each(t.Guards, (*Guard).row))
	}
	if len(t.Registries) > 0 {
		section("schema registries", each(t.Registries, func(r *Registry) []string { return []string{r.Catalog, r.URL, r.security()} }))
	}
	if models := t.Models(); len(models) > 0 {
		section("records", each(models, func(m *TopicModel) []string { return []string{m.Topic, m.text()} }))
	}
	for _, r := range t.Remotes {
		section("remote "+r.Binding, r.rows())
	}
	if collectors := t.Telemetry.OTLP; len(collectors) > 0 {
		section("collectors", slices.Concat(each(collectors, OTLP.rows)...))
	}
	if recorded := t.Telemetry.Recorded; len(recorded) > 0 {
		section("metrics of bindings", each(recorded, func(r Recorded) []string { return []string{r.Binding, strings.Join(r.Names, ", ")} }))
	}
	if len(t.Warnings) > 0 {
		section("warnings", each(t.Warnings, func(p Problem) []string { return []string{p.Error()} }))
	}
	return b.String()
}

func (r NorthRoute) row() []string {
	if r.Target != nil {
		return []string{r.conditions(), "-> " + r.Target.String(), "without Kafka", r.Binding}
	}
	if r.Fetch != nil {
		return []string{r.conditions(), "<- " + r.Topic, r.Fetch.text(), r.Binding}
	}
	replies := "replies from " + r.ReplyTo
	if r.ReplyTo == "" {
		replies = "one-way"
	}
	return []string{r.conditions(), "-> " + r.Topic, replies, r.Binding}
}

// conditions are what a route wants of a call.
func (r NorthRoute) conditions() string {
	return methods(r.Methods) + ofMetadata(r.Metadata) + ofGuards(r.Guarded)
}

// ofGuards is how people are told what a route wants of callers.
func ofGuards(demands []Demand) string {
	var all string
	for _, d := range demands {
		all += " guarded by " + d.Guard
		if len(d.Roles) > 0 {
			all += " (" + strings.Join(d.Roles, ", ") + ")"
		}
	}
	return all
}

func (g *Guard) row() []string {
	if x := g.X509; x != nil {
		return []string{g.Name, "certificates", "identity " + string(x.Identity), "roles " + cmp.Or(strings.Join(x.roleNames(), ", "), "none")}
	}
	j := g.JWT
	of := "of " + cmp.Or(j.Issuer, "any issuer")
	if j.Audience != "" {
		of += " for " + j.Audience
	}
	return []string{g.Name, "tokens " + of, "keys " + j.keysText(), "identity " + j.Identity + ", roles " + j.Roles}
}

// keysText says where the keys are.
func (j *JWTGuard) keysText() string {
	switch {
	case j.KeysURL != "":
		address, _, _ := strings.Cut(j.KeysURL, "?") // what follows may be a secret
		return "of " + address
	case len(j.Keys) > 0:
		return fmt.Sprintf("of the file (%d)", len(j.Keys))
	}
	return "of the issuer"
}

func (x *X509Guard) roleNames() []string {
	return distinct(x.Roles, func(r CertificateRole) string { return r.Role })
}

func (r Remote) rows() [][]string {
	rows := [][]string{
		{"group", r.Group},
		{"cluster", r.Cluster.Binding},
		{"inputs", strings.Join(r.Inputs(), ", ")},
		{"outputs", strings.Join(r.Outputs(), ", ")},
		{"table", r.Table},
		{"loop", r.Loop},
		{"dead letters", r.Processing.DeadLetter},
	}
	if r.Processing.MaxAge > 0 {
		rows = append(rows, []string{"max age", r.Processing.MaxAge.String()})
	}
	if r.Processing.Ordered() {
		rows = append(rows, []string{"order", r.Processing.Order})
	}
	if r.Processing.ExactlyOnce() {
		rows = append(rows, []string{"guarantee", r.Processing.Guarantee})
	}
	for _, route := range r.Routes {
		rows = append(rows, []string{"target", fmt.Sprintf("%s%s%s %s -> %s%s", route.Topic, route.conditions(), route.Event.text(route.ReplyTo), methods(route.Methods), route.Target, route.Target.paceText())})
	}
	return rows
}

// conditions are what a route wants of a record besides its method. Of headers only the names are told.
func (r RemoteRoute) conditions() string {
	var all string
	if r.Key != nil {
		all += fmt.Sprintf(" key %q", r.Key)
	}
	if names := headerNames(r.Headers); len(names) > 0 {
		all += " headers " + strings.Join(names, ", ")
	}
	return all + ofMetadata(r.Metadata)
}

// text says how plain events are read and answered; "" for requests of the contract.
func (e *Event) text(replyTo string) string {
	if e == nil {
		return ""
	}
	replies := "no replies"
	if replyTo != "" {
		replies = fmt.Sprintf("replies in %s to %s", e.Reply, replyTo)
	}
	return fmt.Sprintf(" events in %s, key %s, %s,", e.Request, e.keyText(), replies)
}

// String is the encoding with the registry of its schemas.
func (e Encoding) String() string {
	switch {
	case e.Registry == nil:
		return e.Name
	case e.Schema == SchemaRef{}:
		return fmt.Sprintf("%s by %s", e.Name, e.Registry.Catalog)
	}
	return fmt.Sprintf("%s by %s (%s)", e.Name, e.Registry.Catalog, e.Schema)
}

// keyText is the idempotency key of events, as a file writes it: its value may hold a secret of the environment.
func (e *Event) keyText() string { return cmp.Or(e.KeyText, "topic/partition/offset") }

// Clusters are the clusters that the listeners and remotes use, each once, in that order.
func (t *Topology) Clusters() []*Cluster {
	var all []*Cluster
	add := func(c *Cluster) {
		if c != nil && !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	for _, l := range t.Listeners {
		for _, r := range l.Routes {
			add(r.Cluster)
		}
	}
	for _, r := range t.Remotes {
		add(r.Cluster)
	}
	return all
}

// security says how the brokers are spoken to, where it is not in the clear.
func (c *Cluster) security() string {
	var how []string
	if c.TLS != nil {
		how = append(how, "TLS")
		if len(c.TLS.Config.Certificates) > 0 {
			how[0] = "mutual TLS"
		}
		if c.TLS.Config.VerifyConnection != nil {
			how[0] += " with revocation lists"
		}
	}
	if m := c.SASL.text(); m != "" {
		if m = "SASL " + m; c.guard() != "" {
			m += " of guard " + c.guard()
		}
		how = append(how, m)
	}
	return strings.Join(how, ", ")
}

func (c *Cluster) mechanism() string {
	if c.SASL == nil {
		return ""
	}
	return c.SASL.Mechanism
}

// guard is the one that knows who the program is to the brokers, "" for none.
func (c *Cluster) guard() string {
	if c.SASL == nil {
		return ""
	}
	return c.SASL.Guard
}

// mutual is the word of the file for what clients must show, "" for nothing.
func (t *ServerTLS) mutual() string {
	switch t.ClientAuth {
	case tls.RequireAndVerifyClientCert:
		return "required"
	case tls.VerifyClientCertIfGiven:
		return "requested"
	}
	return ""
}

// northRoutes are the routes of all listeners, each once: ports of one server share theirs.
func (t *Topology) northRoutes() []NorthRoute {
	var all []NorthRoute
	seen := map[string]bool{}
	for _, l := range t.Listeners {
		for _, r := range l.Routes {
			if key := fmt.Sprint(r.Binding, r.Methods, r.Metadata, ofGuards(r.Guarded), r.Topic, r.ReplyTo, r.target(), r.Fetch.group()); !seen[key] {
				seen[key] = true
				all = append(all, r)
			}
		}
	}
	return all
}

// target is the service of a route, "" where it leads to a topic.
func (r NorthRoute) target() string {
	if r.Target == nil {
		return ""
	}
	return r.Target.String()
}

// String is scheme://address, with the authority where it is another one.
func (t Target) String() string {
	s := t.Scheme + "://" + t.Address
	if t.Authority != t.Address {
		s += " (authority " + t.Authority + ")"
	}
	return s
}

func transport(t *ServerTLS) string {
	if t == nil {
		return "plaintext"
	}
	how := "TLS"
	if len(t.ServerNames) > 0 {
		how += " for " + strings.Join(t.ServerNames, ", ")
	}
	if m := t.mutual(); m != "" {
		how += ", client certificates " + m
		if t.VerifyConnection != nil {
			how += " and not revoked"
		}
	}
	return how
}

// methods joins the patterns that must all match, leaving out what adds nothing.
func methods(patterns []MethodPattern) string {
	var parts []string
	for _, p := range patterns {
		if p != "*" && !slices.Contains(parts, string(p)) {
			parts = append(parts, string(p))
		}
	}
	if len(parts) == 0 {
		return "*"
	}
	return strings.Join(parts, " and ")
}
