package topology

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

// Browsers are those that may call a listener, with gRPC-Web: which pages they may do so from.
type Browsers struct {
	HTTP1       bool     // they may speak HTTP/1.1
	SameOrigin  bool     // pages of the listener's own address alone
	Origins     []string // of the others; none: all
	Headers     []string // metadata that pages may send; none: all
	Expose      []string // metadata of answers that pages may see; none: all
	Credentials bool
	MaxAge      time.Duration // for which browsers remember this
}

// origin is where a page is from.
type origin struct{ text }

func (*origin) regexp() string { return `^(\*|https?://[^/?#@*]+)$` }

func (o *origin) parse(value string) string {
	u, err := url.Parse(value)
	if value != "*" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Scheme+"://"+u.Host != value || strings.Contains(value, "*")) {
		return "must be * or the origin of pages, such as https://app.example.com, without a path"
	}
	return ""
}

// browsers are those that may call through an http server; nil: none. It is made once for each binding.
func (c *compiler) browsers(b *binding, spec *httpServer) *Browsers {
	if made, done := c.web[b.name]; done {
		return made
	}
	o := &spec.Options
	if !o.AccessControl.given {
		c.web[b.name] = nil
		return nil
	}
	a := &o.AccessControl.values
	w := &Browsers{
		HTTP1:      len(o.Versions) == 0 || slices.ContainsFunc(o.Versions, func(v text) bool { return v.value == "http/1.1" }),
		SameOrigin: a.Policy.value == "same-origin", Credentials: a.Credentials.value == "true", MaxAge: time.Duration(a.MaxAge) * time.Second,
		Headers: anyOf(a.Headers), Expose: anyOf(a.Expose),
	}
	c.web[b.name] = w
	for _, o := range a.Origins {
		w.Origins = append(w.Origins, o.value)
	}
	if slices.Contains(w.Origins, "*") {
		w.Origins = nil
	}
	post := func(m text) bool { return m.value == "POST" || m.value == "*" }
	switch {
	case len(a.Methods) > 0 && !slices.ContainsFunc(a.Methods, post):
		c.report.problem(a.Methods[0].position, "%s must name POST: calls have no other method", place{b.place.owner, "options.access-control.allow.methods"})
	case w.SameOrigin && len(a.Origins) > 0:
		c.report.problem(a.Origins[0].position, "%s: the policy same-origin lets no others call; use cross-origin, or remove them", a.Origins[0].place)
	case w.Credentials && !w.SameOrigin && len(w.Origins) == 0:
		c.report.problem(a.Credentials.position, "%s: every page could call in the name of who looks at it; name those that may in `allow.origins`", a.Credentials.place)
	}
	return w
}

// unreachedBrowsers warns of http servers that would take browsers, and that none reaches.
func (c *compiler) unreachedBrowsers() {
	for b := range c.graph.each {
		if spec, ok := b.spec.(*httpServer); ok && c.browsers(b, spec) != nil && !c.webServed[b.name] {
			at := spec.Options.AccessControl.values.spot
			c.report.warn(at.at, "%s: no browser reaches it: they speak h2 with TLS alone; lead to it from a tls server, or add http/1.1 to `options.versions`", at.place)
		}
	}
}

// anyOf are names, none for all.
func anyOf(names []text) (all []string) {
	for _, n := range names {
		if n.value == "*" {
			return nil
		}
		all = append(all, n.value)
	}
	return all
}

// from says which pages browsers may call from.
func (w *Browsers) from() string {
	switch {
	case w == nil:
		return ""
	case w.SameOrigin:
		return ", browsers from its own pages"
	case len(w.Origins) == 0:
		return ", browsers from all pages"
	}
	return ", browsers from " + strings.Join(w.Origins, ", ")
}
