package topology

import (
	"slices"
	"strings"
)

// HeaderPattern is what a header of a call must be, in which * stands for any characters.
type HeaderPattern struct{ Name, Value string }

// Header patterns that no metadata of a call is asked for.
const (
	headerMethod = ":method"
	headerScheme = ":scheme"
)

// headerAuthority is the one that an http client may replace.
const headerAuthority = ":authority"

// Takes reports whether the http server of a listener has a route for a call: one that all of the headers are of. value gives those that the call has of a name,
// in lower case: metadata, :path and :authority.
func (l Listener) Takes(value func(name string) []string) bool {
	return len(l.Headers) == 0 || slices.ContainsFunc(l.Headers, func(all []HeaderPattern) bool {
		return !slices.ContainsFunc(all, func(p HeaderPattern) bool {
			return !slices.ContainsFunc(value(p.Name), func(v string) bool { return matchTopic(p.Value, v) })
		})
	})
}

// tlsExit is where a tls server leads on a port, and the names of which clients must ask for one there; none: any, or no name.
func (c *compiler) tlsExit(b *binding, spec *tlsServer, port int) (exit text, names []string, found bool) {
	type way struct {
		name string // "": any
		exit text
	}
	var ways []way
	add := func(name string, exit text) {
		if !exit.given {
			exit = spec.Exit
		}
		ways = append(ways, way{name, exit})
	}
	for _, r := range spec.Routes {
		if len(r.When) == 0 {
			add("", r.Exit)
		}
		for _, w := range r.When {
			if len(w.Port) == 0 || w.Port.contain(port) {
				add(w.Authority.value, r.Exit)
			}
		}
	}
	if spec.Exit.given || len(spec.Routes) == 0 {
		add("", spec.Exit)
	}
	if len(ways) == 0 {
		return text{}, nil, false
	}
	for _, w := range ways {
		if w.exit.value != ways[0].exit.value && w.exit.ok && ways[0].exit.ok {
			c.report.problem(w.exit.position, "%s: port %d of %s leads some clients elsewhere, by the name that they ask for; a port leads to one binding, so give this one a port of its own", w.exit.place, port, b.place)
			break
		}
		if w.name == "" {
			names = nil
			break // all are let in
		}
		names = append(names, w.name)
	}
	return ways[0].exit, names, true
}

// gated is what a route of a tls or http server keeps out.
func (r *gated[W]) keeps() (guarded, conditions bool) { return len(r.Guarded) > 0, len(r.When) > 0 }

// either reports guards beside conditions: who is kept out by one must not come in by the other.
func either[R any, P interface {
	*R
	keeps() (guarded, conditions bool)
}](c *compiler, b *binding, routes []R) {
	guards, conditions := false, false
	for i := range routes {
		g, w := P(&routes[i]).keeps()
		guards, conditions = guards || g, conditions || w
	}
	if guards && conditions {
		c.report.problem(b.at, "routes of %s have `when` and `guarded`, which are not combined there; guard the routes of grpc bindings behind it", b.place)
	}
}

// httpExit is where an http server leads, and what the headers of the calls that it takes are, for a listener with TLS or without; none: takes all.
func (c *compiler) httpExit(b *binding, secured bool) (exit text, headers [][]HeaderPattern) {
	spec := b.spec.(*httpServer)
	scheme := "http"
	if secured {
		scheme = "https"
	}
	static := map[string]string{headerMethod: "POST", headerScheme: scheme}
	fallback := spec.Exit
	if len(spec.Routes) > 0 && spec.Routes[0].Exit.given {
		exit = spec.Routes[0].Exit
	} else {
		exit = fallback
	}
	all := len(spec.Routes) == 0 || fallback.given
	for _, r := range spec.Routes {
		to := c.graph.next(b, r.Exit)
		if elsewhere := func(other text) bool { o := c.graph.next(b, other); return to != nil && o != nil && o != to }; elsewhere(exit) || elsewhere(fallback) {
			c.report.problem(r.Exit.position, "%s: %s leads some calls elsewhere, by their headers; it leads to one grpc server: tell calls apart by method and metadata there", r.Exit.place, b.place)
			break
		}
		all = all || len(r.When) == 0
		for _, w := range r.When {
			patterns, never := []HeaderPattern{}, false
			for _, h := range w.Headers {
				name := strings.ToLower(h.name.value)
				is, known := static[name]
				switch {
				case !h.value.ok:
				case known:
					never = never || !matchTopic(h.value.value, is)
				default:
					patterns = append(patterns, HeaderPattern{name, h.value.value})
				}
			}
			all = all || len(patterns) == 0 && !never
			if !never {
				headers = append(headers, patterns)
			}
		}
	}
	if all {
		return exit, nil
	}
	if len(headers) == 0 {
		c.report.warn(b.at, "%s takes no call: gRPC calls are POST, and those of this port %s", b.place, scheme)
		headers = [][]HeaderPattern{{{":path", ""}}} // no path is empty
	}
	return exit, headers
}

// httpHeaders checks the names of headers that routes ask for.
func (c *compiler) httpHeaders(spec *httpServer) {
	for _, r := range spec.Routes {
		for _, w := range r.When {
			for _, h := range w.Headers {
				name := strings.ToLower(h.name.value)
				if !slices.Contains([]string{headerMethod, headerScheme, ":path", ":authority"}, name) && !legalMeta.MatchString(name) {
					c.report.problem(h.name.position, "%s: the name must be :method, :scheme, :path, :authority, or that of metadata (a-z 0-9 . _ -), not `%s`", h.name.place.key(h.name.value), h.name.raw)
				}
			}
		}
	}
}

// shown is what may be told of it: a value of metadata may be a secret of the environment.
func (p HeaderPattern) shown() string {
	if strings.HasPrefix(p.Name, ":") {
		return p.Name + " " + p.Value
	}
	return p.Name
}

// httpOverrides checks the headers that an http client replaces.
func (c *compiler) httpOverrides(spec *httpClient) {
	for _, o := range spec.Options.Overrides {
		if o.name.value != headerAuthority {
			c.report.problem(o.name.position, "%s: only :authority can be replaced; other headers of a call are its metadata, which is passed on as it comes", o.name.place.key(o.name.value))
		}
	}
}

// asking says which names clients must ask for, "" where they need not.
func (l Listener) asking() (said string) {
	if len(l.Authorities) > 0 {
		said = " asked for as " + strings.Join(l.Authorities, ", ")
	}
	if len(l.Headers) > 0 {
		said += " with " + strings.Join(each(l.Headers, func(all []HeaderPattern) string {
			return strings.Join(each(all, HeaderPattern.shown), " and ")
		}), ", or ")
	}
	return said
}
