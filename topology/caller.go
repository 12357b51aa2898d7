package topology

import (
	"net/url"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"kafkagrpc/wire"
)

// Guard tells who calls. JWT or X509 is set.
type Guard struct {
	Name string
	JWT  *JWTGuard
	X509 *X509Guard
}

// Type is the word of the file for what the guard looks at.
func (g *Guard) Type() string {
	if g.X509 != nil {
		return "x509"
	}
	return "jwt"
}

// JWTGuard knows callers by tokens that somebody has signed.
type JWTGuard struct {
	Issuer     string // iss of the tokens; "": any
	Audience   string // in aud of the tokens; "": any
	KeysURL    string // of a JWKS; "": Keys, or where there are none what the issuer names
	Keys       []jose.JSONWebKey
	Identity   string // the claim that names the caller
	Roles      string // the claim with its roles
	Attributes []Attribute
}

// X509Guard knows callers by the certificates of their connections, which have been verified.
type X509Guard struct {
	Identity   CertificateField
	Attributes []Attribute
	Roles      []CertificateRole
}

// Attribute is something else that a guard knows of a caller.
type Attribute struct{ Name, From string } // From is a claim, or a CertificateField

// CertificateRole is a role that certificates have: those that have the value of each field.
type CertificateRole struct {
	Role   string
	Fields []CertificateValue
}

// CertificateValue is what a certificate must have.
type CertificateValue struct {
	Field CertificateField
	Value string
}

// TokenSource is where callers of a listener send the tokens of a guard: in the first place that is there.
type TokenSource struct {
	Guard   string
	Headers []TokenPlace // metadata
	Cookies []TokenPlace
}

// TokenPlace is metadata, or a cookie, with a token between two texts.
type TokenPlace struct{ Name, Before, After string }

// Demand is what a route wants of its callers: that the guard knows them, and that they have all roles.
type Demand struct {
	Guard string
	Roles []string

	at text
}

// CallerPart is a piece of a value that depends on who calls.
type CallerPart struct {
	Text      string // as it is, where Guard is ""
	Guard     string
	Attribute string // "": the identity
}

// CallerValue is the key, or an override, of a route that depends on who calls, or that of a filter.
type CallerValue struct {
	Filter int // 0: of the records that are written; else of the nth filter
	Header int // index in Overrides, or in the headers of the filter; -1: the key
	Parts  []CallerPart

	at text
}

// callerGuards are those of the file that tell who calls, by name.
func (c *compiler) callerGuards() map[string]*Guard {
	all := map[string]*Guard{}
	for i := range c.doc.Guards {
		g := &c.doc.Guards[i].value
		if spec, ok := g.spec.(callerGuard); ok {
			made := &Guard{Name: c.doc.Guards[i].name.value}
			spec.compile(c, made, g)
			all[made.Name] = made
		}
	}
	return all
}

func (s *jwtGuard) compile(c *compiler, g *Guard, of *guard) {
	o := &s.Options
	j := &JWTGuard{Issuer: o.Issuer.value, Audience: o.Audience.value, Identity: "sub", Roles: "scope"}
	g.JWT = j
	if o.Identity.ok {
		j.Identity = o.Identity.value
	}
	if o.Roles.ok {
		j.Roles = o.Roles.value
	}
	for _, a := range o.Attributes {
		j.Attributes = append(j.Attributes, Attribute{a.name.value, a.value.value})
	}
	switch {
	case o.Keys.url.given:
		if j.KeysURL = o.Keys.url.value; o.Keys.url.ok {
			c.keysURL(o.Keys.url, "a JWKS")
		}
	case len(o.Keys.keys) > 0:
		for i := range o.Keys.keys {
			if key := o.Keys.keys[i].key(c.report); key != nil {
				j.Keys = append(j.Keys, *key)
			}
		}
	case o.Keys.at != (position{}): // reported
	case o.Issuer.ok:
		c.keysURL(o.Issuer, "an issuer that names its keys")
	case !o.Issuer.given:
		c.report.problem(of.at, "%s has neither `options.keys` nor `options.issuer`, so it could not tell one token from another; add one, or both", of.place)
	}
	if !o.Issuer.given {
		c.report.warn(of.at, "%s takes tokens of any issuer that signs with its keys; name it in `options.issuer`", of.place)
	}
	if !o.Audience.given {
		c.report.warn(of.at, "%s takes tokens that were made for others; name yours in `options.audience`", of.place)
	}
}

// keysURL checks where keys are fetched. Who can change them on the way can make tokens.
func (c *compiler) keysURL(t text, what string) {
	u, err := url.Parse(t.value)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Fragment != "" {
		c.report.problem(t.position, "%s must be the URL of %s, such as https://auth.example.com, without a user, not `%s`", t.place, what, t.raw)
		return
	}
	if u.Scheme == "http" && !strings.HasPrefix(u.Hostname(), "127.") && u.Hostname() != "::1" && u.Hostname() != "localhost" {
		c.report.warn(t.position, "%s: who is between can change the keys, and so make tokens; use https", t.place)
	}
}

func (s *x509Guard) compile(c *compiler, g *Guard, _ *guard) {
	o := &s.Options
	x := &X509Guard{Identity: "subject.dn"}
	g.X509 = x
	if o.Identity.ok {
		x.Identity = CertificateField(o.Identity.value)
	}
	for _, a := range o.Attributes {
		x.Attributes = append(x.Attributes, Attribute{a.name.value, a.value.value})
	}
	for _, r := range o.Roles {
		for _, fields := range r.value {
			role := CertificateRole{Role: r.name.value}
			for _, f := range fields {
				name := certificateField{f.name}
				if wrong := name.parse(f.name.value); wrong != "" {
					c.report.problem(f.name.position, "%s: the name %s, not `%s`", f.name.place, wrong, f.name.value)
				}
				role.Fields = append(role.Fields, CertificateValue{CertificateField(f.name.value), f.value.value})
			}
			if len(fields) == 0 {
				c.report.problem(r.name.position, "%s: a certificate without conditions would be every one; name fields", r.name.place.key(r.name.value))
			}
			x.Roles = append(x.Roles, role)
		}
	}
}

// caller is a guard by its name that tells who calls. It is nil where there is none, which is reported.
func (c *compiler) caller(name text, kind string) *Guard {
	c.guarding[name.value] = true
	g, ok := c.doc.Guards.get(name.value)
	switch {
	case !ok:
		c.report.problem(name.position, "%s names guard `%s`, which does not exist%s", name.place, name.value, hint(name.value, c.doc.Guards.names()))
		return nil
	case g.spec == nil:
		return nil
	}
	found := c.callers[name.value]
	switch {
	case found == nil:
		c.report.problem(name.position, "%s: guard `%s` is of type inline, which knows nobody who calls; use one of type jwt or x509", name.place, name.value)
	case kind != "" && found.Type() != kind:
		c.report.problem(name.position, "%s: guard `%s` is of type %s; this takes one of type %s", name.place, name.value, found.Type(), kind)
		return nil
	}
	return found
}

// demands are what a route wants of callers.
func (c *compiler) demands(guarded named[[]text]) (all []Demand) {
	for _, g := range guarded {
		if c.caller(g.name, "") == nil {
			continue
		}
		d := Demand{Guard: g.name.value, at: g.name}
		for _, role := range g.value {
			if role.ok {
				d.Roles = append(d.Roles, role.value)
			}
		}
		all = append(all, d)
	}
	return all
}

// joined are the demands of two places on one way.
func joined(a, b []Demand) []Demand {
	all := slices.Clone(a)
	for _, d := range b {
		i := slices.IndexFunc(all, func(o Demand) bool { return o.Guard == d.Guard })
		if i < 0 {
			all = append(all, d)
			continue
		}
		all[i].Roles = slices.Clone(all[i].Roles)
		for _, role := range d.Roles {
			if !slices.Contains(all[i].Roles, role) {
				all[i].Roles = append(all[i].Roles, role)
			}
		}
	}
	return all
}

// gates are the ways through a server whose routes have no conditions but guards, in their order: what each wants of callers. All
// must lead to one binding.
func (c *compiler) gates(b *binding) (to *binding, gates [][]Demand) {
	routes, fallback := b.spec.(interface{ always() ([]always, text) }).always()
	routes = append(slices.Clone(routes), always{spot: b.spot})
	var exit text
	for i, r := range routes {
		if !r.Exit.given {
			r.Exit = fallback
		}
		if !r.Exit.given && i == len(routes)-1 {
			break // there is no default
		}
		if !exit.given {
			exit = r.Exit
		} else if r.Exit.ok && exit.ok && r.Exit.value != exit.value {
			c.report.problem(r.Exit.position, "%s leads callers elsewhere, by who they are, which only the routes of grpc and grpc-kafka bindings do; lead to `%s`, and guard routes behind it", r.Exit.place, exit.value)
		}
		gates = append(gates, c.demands(r.Guarded))
		if len(r.Guarded) == 0 {
			if i > 0 {
				c.open(r.Exit, b)
			}
			break // all come through
		}
	}
	return c.graph.next(b, exit), gates
}

// open reports an exit for those whom guarded routes to the same binding do not let through.
func (c *compiler) open(exit text, of *binding) {
	c.report.problem(exit.position, "%s: guards of other routes of %s to `%s` guard nothing, as this leads everybody there; remove it, and give each of them its `exit`", exit.place, of.place, exit.value)
}

func (s *tlsServer) always() ([]always, text) {
	return each(s.Routes, func(r tlsRoute) always { return r.always }), s.Exit
}

func (s *httpServer) always() ([]always, text) {
	return each(s.Routes, func(r httpRoute) always { return r.always }), s.Exit
}

// beyond are the ways through two places, one behind the other.
func beyond(first, second [][]Demand) (all [][]Demand) {
	for _, a := range first {
		for _, b := range second {
			all = append(all, joined(a, b))
		}
	}
	return all
}

// tokenSources are where callers of an http server send tokens.
func (c *compiler) tokenSources(spec *httpServer) (all []TokenSource) {
	for _, a := range spec.Options.Authorization {
		g := c.caller(a.name, "jwt")
		if g == nil {
			continue
		}
		s := TokenSource{Guard: a.name.value}
		for _, h := range a.value.Credentials.Headers {
			name := metadataName{h.name}
			if wrong := name.parse(h.name.value); wrong != "" {
				c.report.problem(h.name.position, "%s: the name %s, not `%s`", h.name.place, wrong, h.name.value)
			} else if name.text.value == "cookie" {
				c.report.problem(h.name.position, "%s: a header of cookies may have several; name the cookie in `cookies`", h.name.place)
			}
			s.Headers = append(s.Headers, TokenPlace{name.text.value, h.value.before, h.value.after})
		}
		for _, k := range a.value.Credentials.Cookies {
			s.Cookies = append(s.Cookies, TokenPlace{k.name.value, k.value.before, k.value.after})
		}
		if len(s.Headers)+len(s.Cookies) == 0 {
			c.report.problem(a.value.at, "%s says nowhere that tokens are; add `credentials.headers`, such as authorization: Bearer {credentials}", a.value.place)
		}
		all = append(all, s)
	}
	return all
}

// certificateGuards are the guards that a tls server gives the certificates of its clients.
func (c *compiler) certificateGuards(spec *tlsServer) (all []string) {
	for _, a := range spec.Options.Authorization {
		if c.caller(a.name, "x509") == nil {
			continue
		}
		if clientAuth(spec) == 0 {
			c.report.problem(a.name.position, "%s: clients are not asked for a certificate; set `mutual` to required or requested, with `trust`", a.value.place)
		}
		all = append(all, a.name.value)
	}
	return all
}

// guardedRoutes are routes behind the gates of a listener. What they want of callers must be what the listener can tell.
func (c *compiler) guardedRoutes(b *binding, l *Listener, gates [][]Demand, routes []NorthRoute) []NorthRoute {
	if len(gates)*len(routes) > maxRoutes {
		c.report.problem(b.at, "%s and the bindings behind it have more than %d combinations of routes", b.place, maxRoutes)
		return nil
	}
	var all []NorthRoute
	for _, gate := range gates {
		for _, r := range routes {
			r.Guarded = joined(gate, r.Guarded)
			for _, d := range r.Guarded {
				c.asked(d, l)
			}
			for _, v := range r.Callers {
				for _, p := range v.Parts {
					if c.callers[p.Guard] != nil && !slices.ContainsFunc(r.Guarded, func(d Demand) bool { return d.Guard == p.Guard }) {
						c.report.problem(v.at.position, "%s: on the way from binding `%s` no route is guarded by `%s`, so callers may be unknown to it; add it to `guarded`", v.at.place, b.name, p.Guard)
					}
				}
			}
			for _, s := range l.Tokens {
				c.tokensToKafka(s, r)
			}
			all = append(all, r)
		}
	}
	for _, s := range l.Tokens {
		c.idleGuard(s.Guard, all, b)
	}
	for _, name := range l.Certificates {
		c.idleGuard(name, all, b)
	}
	return all
}

// asked reports a guard that never gets anything of a listener's callers.
func (c *compiler) asked(d Demand, l *Listener) {
	if c.callers[d.Guard].X509 != nil {
		if !slices.Contains(l.Certificates, d.Guard) {
			c.report.problem(d.at.position, "%s: guard `%s` gets no certificates of the clients of binding `%s`; add `options.authorization` with it to the tls server on the way", d.at.place, d.Guard, l.Binding)
		}
		return
	}
	if !slices.ContainsFunc(l.Tokens, func(s TokenSource) bool { return s.Guard == d.Guard }) {
		c.report.problem(d.at.position, "%s: guard `%s` gets no tokens of the callers of binding `%s`; add `options.authorization` with it to the http server on the way", d.at.place, d.Guard, l.Binding)
	}
}

// tokensToKafka reports metadata with tokens that a binding would write into records.
func (c *compiler) tokensToKafka(s TokenSource, r NorthRoute) {
	if r.Target != nil {
		return
	}
	spec := c.graph.bindings[r.Binding].spec.(*grpcKafka)
	for _, allowed := range spec.Options.AllowMetadata {
		name := allowed.text.value
		if slices.ContainsFunc(s.Headers, func(p TokenPlace) bool { return p.Name == name }) || name == "cookie" && len(s.Cookies) > 0 {
			c.report.problem(allowed.position, "%s: guard `%s` takes tokens from `%s`, and Kafka would keep them for longer than they are good; remove it, and pass on what the guard knows with `overrides`",
				allowed.place, s.Guard, name)
		}
	}
}

func (c *compiler) idleGuard(name string, routes []NorthRoute, b *binding) {
	if !slices.ContainsFunc(routes, func(r NorthRoute) bool {
		return slices.ContainsFunc(r.Guarded, func(d Demand) bool { return d.Guard == name })
	}) {
		c.report.warn(b.at, "%s: no route behind it is guarded by `%s`, so callers are not asked; add `guarded` to those that are not for all", b.place, name)
	}
}

// usedGuards are those that a route wants, each once.
func (t *Topology) usedGuards(known map[string]*Guard) (all []*Guard) {
	for _, l := range t.Listeners {
		for _, r := range l.Routes {
			for _, d := range r.Guarded {
				if g := known[d.Guard]; !slices.Contains(all, g) {
					all = append(all, g)
				}
			}
		}
	}
	return all
}

// Fill is a route with the values that depend on who calls. known is what a guard knows of the caller, "" for nothing; a name of an
// attribute is "" for the identity. missing is what it would have needed.
func (r NorthRoute) Fill(known func(guard, attribute string) string) (filled NorthRoute, missing *CallerPart) {
	if len(r.Callers) == 0 {
		return r, nil
	}
	r.Overrides = slices.Clone(r.Overrides)
	filtered := false
	if r.Fetch != nil {
		f := *r.Fetch
		f.Filters = slices.Clone(f.Filters)
		r.Fetch = &f
	}
	for _, v := range r.Callers {
		var b strings.Builder
		for _, p := range v.Parts {
			value := p.Text
			if p.Guard != "" {
				if value = known(p.Guard, p.Attribute); value == "" {
					return r, &p
				}
			}
			b.WriteString(value)
		}
		switch {
		case v.Filter > 0:
			filtered = true
			r.Fetch.Filters[v.Filter-1] = r.Fetch.Filters[v.Filter-1].with(v.Header, b.String())
		case v.Header < 0:
			r.Key = b.String()
		default:
			r.Overrides[v.Header] = wire.Header{Name: r.Overrides[v.Header].Name, Value: []byte(b.String())}
		}
	}
	if filtered { // who shares a topic with others must leave out what they do
		r.Fetch.Group += groupMark(r.Fetch.Filters)
	}
	return r, nil
}

func sameDemands(a, b []Demand) bool {
	return slices.EqualFunc(a, b, func(x, y Demand) bool { return x.Guard == y.Guard && slices.Equal(x.Roles, y.Roles) })
}

// with is a filter with another value of a header, or of the key.
func (f Filter) with(header int, value string) Filter {
	if header < 0 {
		f.Key = []byte(value)
		return f
	}
	f.Headers = slices.Clone(f.Headers)
	f.Headers[header].Value = []byte(value)
	return f
}
