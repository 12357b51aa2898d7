package topology

import (
	"slices"
	"strings"
)

// followers are the kinds of bindings that an exit may lead to. They are in layers, so the walks over exits that
// keep to them end.
var followers = map[string][]string{
	"tcp server":               {"tls server", "http server"},
	"tls server":               {"http server"},
	"http server":              {"grpc server"},
	"grpc server":              {"grpc-kafka proxy", "grpc client", "echo server"},
	"grpc-kafka proxy":         {"kafka cache_client"},
	"kafka cache_client":       {"kafka cache_server"},
	"kafka cache_server":       {"kafka client"},
	"kafka client":             {"tls client", "tcp client"},
	"kafka-grpc remote_server": {"grpc client"},
	"grpc client":              {"http client"},
	"http client":              {"tls client", "tcp client"},
	"tls client":               {"tcp client"},
}

// entries are the kinds that the `entry` of a kafka-grpc binding may lead to.
var entries = []string{"kafka cache_client"}

// graph is the bindings by name, with what leads from one to another.
type graph struct {
	report   *report
	bindings map[string]*binding
	names    []string // in the order of the file
	cyclic   map[text]bool
}

func newGraph(r *report, doc *document) *graph {
	g := &graph{report: r, bindings: map[string]*binding{}, names: doc.Bindings.names(), cyclic: map[text]bool{}}
	for i := range doc.Bindings {
		b := &doc.Bindings[i].value
		g.bindings[b.name] = b
	}
	return g
}

// each are the bindings in the order of the file.
func (g *graph) each(yield func(*binding) bool) {
	for _, name := range g.names {
		if !yield(g.bindings[name]) {
			return
		}
	}
}

// exits are all exits of a binding that are given, the default last.
func (b *binding) exits() []text {
	l, ok := b.spec.(leaping)
	if !ok {
		return nil
	}
	fallback, routes := l.leaps()
	var exits []text
	for _, r := range routes {
		if r.exit.ok {
			exits = append(exits, r.exit)
		}
	}
	if fallback.ok {
		exits = append(exits, fallback)
	}
	return exits
}

func (b *binding) entry() (text, bool) {
	k, ok := b.spec.(*kafkaGRPC)
	if !ok || !k.Entry.ok {
		return text{}, false
	}
	return k.Entry, true
}

// next is the binding that an exit leads to, or nil where check has reported the exit.
func (g *graph) next(from *binding, exit text) *binding {
	to := g.bindings[exit.value]
	if !exit.ok || to == nil || to.spec == nil || !slices.Contains(followers[from.kind], to.kind) {
		return nil
	}
	return to
}

// check reports every reference that leads nowhere, to the wrong kind of binding, or in a circle, bindings that
// lack an exit, and bindings that nothing leads to.
func (g *graph) check() {
	g.cycles()
	for b := range g.each {
		g.needExit(b)
		for _, exit := range b.exits() {
			g.reference(b, exit, followers[b.kind])
		}
		if e, ok := b.entry(); ok {
			g.reference(b, e, entries)
		}
	}
	g.unreached()
}

func (g *graph) reference(from *binding, exit text, kinds []string) {
	to, ok := g.bindings[exit.value]
	switch {
	case !ok:
		g.report.problem(exit.position, "%s leads to binding `%s`, which does not exist%s", exit.place, exit.raw, hint(exit.value, g.names))
	case to.spec == nil || g.cyclic[exit] || slices.Contains(kinds, to.kind):
	default:
		g.report.problem(exit.position, "%s leads to binding `%s`, %s, which cannot follow %s; it takes %s",
			exit.place, exit.raw, a(to.kind), a(from.kind), oneOf(kinds))
	}
}

func (g *graph) needExit(b *binding) {
	l, ok := b.spec.(leaping)
	if !ok {
		return
	}
	fallback, routes := l.leaps()
	if fallback.given {
		return
	}
	kinds := oneOf(followers[b.kind])
	if len(routes) == 0 && !needsRoutes(b.spec) {
		g.report.problem(b.at, "%s has no exit; add `exit` with the name of %s", b.place, kinds)
	}
	for _, r := range routes {
		if !r.exit.given {
			g.report.problem(r.at, "%s has no exit; add `exit` with the name of %s", r.place, kinds)
		}
	}
}

// a puts the article before a kind.
func a(kind string) string {
	if strings.HasPrefix(kind, "http") || strings.HasPrefix(kind, "echo") {
		return "an " + kind
	}
	return "a " + kind
}

func oneOf(kinds []string) string {
	all := make([]string, len(kinds))
	for i, k := range kinds {
		all[i] = a(k)
	}
	return strings.Join(all, " or ")
}

// needsRoutes reports whether the routes of a binding say more than where to go; the decoder reports missing ones.
func needsRoutes(spec any) bool {
	switch spec.(type) {
	case *grpcKafka, *kafkaGRPC:
		return true
	}
	return false
}

// cycles reports each circle of exits once.
func (g *graph) cycles() {
	const onPath, done = 1, 2
	state := map[string]int{}
	var path []text // path[i] leads from chain[i] to chain[i+1]
	var chain []string
	var walk func(b *binding)
	walk = func(b *binding) {
		state[b.name] = onPath
		chain = append(chain, b.name)
		for _, exit := range b.exits() {
			to := g.bindings[exit.value]
			if to == nil {
				continue
			}
			switch state[to.name] {
			case 0:
				path = append(path, exit)
				walk(to)
				path = path[:len(path)-1]
			case onPath:
				begin := slices.Index(chain, to.name)
				for _, e := range path[begin:] {
					g.cyclic[e] = true
				}
				g.cyclic[exit] = true
				circle := strings.Join(append(slices.Clone(chain[begin:]), to.name), " -> ")
				g.report.problem(exit.position, "%s closes a circle of exits: %s", exit.place, circle)
			}
		}
		chain = chain[:len(chain)-1]
		state[b.name] = done
	}
	for b := range g.each {
		if state[b.name] == 0 {
			walk(b)
		}
	}
}

// unreached warns of bindings that no way from a tcp server or a kafka-grpc remote_server passes.
func (g *graph) unreached() {
	reached := map[string]bool{}
	var walk func(b *binding)
	walk = func(b *binding) {
		if b == nil || reached[b.name] {
			return
		}
		reached[b.name] = true
		for _, exit := range b.exits() {
			walk(g.bindings[exit.value])
		}
		if e, ok := b.entry(); ok {
			walk(g.bindings[e.value])
		}
	}
	for b := range g.each {
		if b.kind == "tcp server" || b.kind == "kafka-grpc remote_server" {
			walk(b)
		}
	}
	for b := range g.each {
		if b.spec != nil && !reached[b.name] {
			g.report.warn(b.at, "%s is not used: no way from a tcp server or a kafka-grpc remote_server leads to it", b.place)
		}
	}
}
