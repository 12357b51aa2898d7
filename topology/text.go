package topology

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// Text describes the topology for people, in a few aligned lines. It holds no key material.
func (t *Topology) Text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s: namespace %s\n", t.File, t.Namespace)
	if len(t.Listeners) > 0 {
		fmt.Fprintf(w, "\nlisteners\n")
		for _, l := range t.Listeners {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", l.Address(), transport(l.TLS), l.Binding)
		}
		fmt.Fprintf(w, "\nnorth routes\n")
		for _, r := range t.northRoutes() {
			replies := "replies from " + r.ReplyTo
			if r.ReplyTo == "" {
				replies = "one-way"
			}
			fmt.Fprintf(w, "  %s\t-> %s\t%s\t%s\n", methods(r.Methods), r.Topic, replies, r.Binding)
		}
	}
	fmt.Fprintf(w, "\nKafka clusters\n")
	for _, c := range t.Clusters() {
		fmt.Fprintf(w, "  %s\t%s%s\n", c.Binding, strings.Join(c.Brokers, ", "), c.security())
	}
	for _, r := range t.Remotes {
		fmt.Fprintf(w, "\nremote %s\n", r.Binding)
		fmt.Fprintf(w, "  group\t%s\n", r.Group)
		fmt.Fprintf(w, "  cluster\t%s\n", r.Cluster.Binding)
		fmt.Fprintf(w, "  inputs\t%s\n", strings.Join(r.Inputs(), ", "))
		fmt.Fprintf(w, "  outputs\t%s\n", strings.Join(r.Outputs(), ", "))
		fmt.Fprintf(w, "  table\t%s\n", r.Table)
		fmt.Fprintf(w, "  loop\t%s\n", r.Loop)
		fmt.Fprintf(w, "  dead letters\t%s\n", r.Processing.DeadLetter)
		for _, route := range r.Routes {
			fmt.Fprintf(w, "  target\t%s%s %s -> %s\n", route.Topic, route.conditions(), methods(route.Methods), route.Target)
		}
	}
	if len(t.Telemetry.Recorded) > 0 {
		fmt.Fprintf(w, "\nmetrics of bindings\n")
		for _, r := range t.Telemetry.Recorded {
			fmt.Fprintf(w, "  %s\t%s\n", r.Binding, strings.Join(r.Names, ", "))
		}
	}
	if len(t.Warnings) > 0 {
		fmt.Fprintf(w, "\nwarnings\n")
		for _, p := range t.Warnings {
			fmt.Fprintf(w, "  %s\n", p)
		}
	}
	w.Flush()
	return b.String()
}

// conditions are what a route wants of a record besides its method. Of headers only the names are told.
func (r RemoteRoute) conditions() string {
	var all string
	if r.Key != nil {
		all += fmt.Sprintf(" key %q", r.Key)
	}
	if names := r.headerNames(); len(names) > 0 {
		all += " headers " + strings.Join(names, ", ")
	}
	return all
}

func (r RemoteRoute) headerNames() []string {
	var names []string
	for _, h := range r.Headers {
		names = append(names, h.Name)
	}
	return names
}

// Clusters are the clusters that the listeners and remotes use, each once, in that order.
func (t *Topology) Clusters() []*Cluster {
	var all []*Cluster
	add := func(c *Cluster) {
		if !slices.Contains(all, c) {
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
	}
	if m := c.mechanism(); m != "" {
		how = append(how, "SASL "+m)
	}
	if len(how) == 0 {
		return ""
	}
	return "\t" + strings.Join(how, ", ")
}

func (c *Cluster) mechanism() string {
	if c.SASL == nil {
		return ""
	}
	return c.SASL.Mechanism
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
			if key := fmt.Sprint(r.Binding, r.Methods, r.Topic, r.ReplyTo); !seen[key] {
				seen[key] = true
				all = append(all, r)
			}
		}
	}
	return all
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
