package topology

import (
	"net"
	"slices"
	"strings"
)

// maxPorts bounds the ports of one tcp server.
const maxPorts = 100

func (c *compiler) listeners(b *binding, spec *tcpServer) []Listener {
	ports, at := c.ports(spec)
	for _, r := range spec.Routes {
		for _, w := range r.When {
			if len(ports) > 0 {
				c.servedPorts(w.Port, ports, b)
			}
		}
	}
	name := "0.0.0.0"
	if spec.Options.Host.ok {
		name = spec.Options.Host.value
	}
	if c.options.Listen != "" {
		name = strings.Trim(c.options.Listen, "[]")
	}
	var all []Listener
	for _, port := range ports {
		exit, clients, gate, found := c.portExit(b, spec, port)
		if !found {
			c.report.problem(at[port].position, "%s: port %d is in no route of %s; add a route with this port, or an `exit` to the binding",
				at[port].place, port, b.place)
			continue
		}
		l := Listener{Binding: b.name, Host: name, Port: port, Clients: clients}
		to, gates := c.graph.next(b, exit), [][]Demand{gate}
		if to != nil {
			if t, ok := to.spec.(*tlsServer); ok {
				l.TLS, l.Certificates = c.serverTLS(to, t), c.certificateGuards(t)
				name := to.place
				if _, l.Authorities, found = c.tlsExit(to, t, port); !found {
					c.report.problem(to.at, "port %d of %s is in no route of %s; add a route with this port, or an `exit`", port, b.place, name)
					continue
				}
				next, inner := c.gates(to)
				to, gates = next, beyond(gates, inner)
			}
		}
		if to != nil {
			http := to.spec.(*httpServer)
			l.Tokens = c.tokenSources(http)
			if w := c.browsers(to, http); w != nil && (w.HTTP1 || l.TLS != nil) { // HTTP/2 without TLS is for others
				l.Browsers, c.webServed[to.name] = w, true
			}
			_, l.Headers = c.httpExit(to, l.TLS != nil)
			_, inner := c.gates(to)
			gates = beyond(gates, inner)
		}
		l.Routes = c.guardedRoutes(b, &l, gates, c.northRoutes(to))
		l.GRPC, l.Server = c.serverOf(to)
		all = append(all, l)
	}
	return all
}

// ports are those of a tcp server, in the order of the file, and where it names them. There are none where there are too many.
func (c *compiler) ports(spec *tcpServer) (ports []int, at map[int]text) {
	at = map[int]text{}
	for _, r := range spec.Options.Port {
		if !r.ok {
			continue
		}
		if r.high-r.low >= maxPorts || len(ports) >= maxPorts {
			c.report.problem(r.position, "%s: a tcp server takes at most %d ports", r.place, maxPorts)
			return nil, nil
		}
		for port := r.low; port <= r.high; port++ {
			if _, twice := at[port]; twice {
				c.report.problem(r.position, "%s: port %d is in the list twice; remove one", r.place, port)
				continue
			}
			at[port] = r.text
			ports = append(ports, port)
		}
	}
	return ports, at
}

// servedPorts reports ports of a route that the server does not listen on.
func (c *compiler) servedPorts(routed ports, served []int, b *binding) {
	for _, r := range routed {
		if r.ok && !slices.ContainsFunc(served, func(p int) bool { return r.low <= p && p <= r.high }) {
			c.report.problem(r.position, "%s: `options.port` of %s has no port `%s`; add it there or remove the route", r.place, b.place, r.raw)
		}
	}
}

// serverOf are the name and the options of the grpc server behind an http server.
func (c *compiler) serverOf(http *binding) (name string, server Server) {
	if to := c.ahead(http); to != nil {
		return to.name, c.server(to.spec.(*grpcServer))
	}
	return "", Server{}
}

// northRoutes are the routes behind an http server: each `when` of the grpc server with each of the binding that follows, grpc-kafka or
// grpc client, except those that no method can pass.
func (c *compiler) northRoutes(http *binding) []NorthRoute {
	if http == nil {
		return nil
	}
	if routes, done := c.north[http.name]; done {
		return routes
	}
	c.north[http.name] = nil
	server := c.ahead(http)
	if server == nil {
		return nil
	}
	spec := server.spec.(*grpcServer)
	var all []NorthRoute
	for _, f := range c.follow(server, spec.Routes, spec.Exit) {
		for _, inner := range c.routesOf(f.to) {
			for _, when := range f.when {
				if !overlap(when.method, inner.Methods[0]) {
					continue
				}
				if len(all) == maxRoutes {
					c.report.problem(server.at, "%s and the bindings behind it have more than %d combinations of routes", server.place, maxRoutes)
					return nil
				}
				r := inner
				r.Methods = []MethodPattern{when.method, inner.Methods[0]}
				r.Metadata = slices.Concat(when.metadata, inner.Metadata)
				r.Guarded = joined(f.guarded, inner.Guarded)
				all = append(all, r)
			}
		}
	}
	if len(all) == 0 {
		c.report.warn(server.at, "%s passes no method on: its routes and those of the bindings behind it have none in common", server.place)
	}
	c.north[http.name] = all
	return all
}

// routesOf are the routes of a binding that follows a grpc server, one for each `when`.
func (c *compiler) routesOf(b *binding) []NorthRoute {
	if spec, ok := b.spec.(*grpcClient); ok {
		return c.directRoutes(b, spec)
	}
	if _, ok := b.spec.(*echoServer); ok {
		return []NorthRoute{{Binding: b.name, Methods: []MethodPattern{"*"}, Target: &Target{Scheme: Echo, Authority: b.name, Address: b.name}}}
	}
	return c.topicRoutes(b)
}

// directRoutes are those of a grpc client, which lead to services.
func (c *compiler) directRoutes(b *binding, spec *grpcClient) []NorthRoute {
	for _, pace := range []text{c.texts[&spec.Options.MaxInFlight], c.texts[&spec.Options.RateCalls]} {
		if pace.ok {
			c.report.problem(pace.position, "%s: calls that a grpc server leads straight to %s would not keep to it; lead them to a grpc client without a pace", pace.place, b.place)
		}
	}
	var all []NorthRoute
	for _, f := range c.follow(b, spec.Routes, spec.Exit) {
		target, ok := c.target(spec.Options.Target, kafkaGRPCRoute{}, f.to)
		if !ok {
			continue
		}
		for _, when := range f.when {
			all = append(all, NorthRoute{Binding: b.name, Methods: []MethodPattern{when.method}, Metadata: when.metadata, Guarded: f.guarded, Target: &target})
		}
	}
	return all
}

// topicRoutes are the routes of a grpc-kafka binding, one for each `when`.
func (c *compiler) topicRoutes(b *binding) []NorthRoute {
	spec := b.spec.(*grpcKafka)
	contract := c.contract(&spec.Options.contract)
	replies := map[string]bool{}
	for _, r := range spec.Routes {
		// A route may have its requests for replies: they have the form of replies, and no status, which is OK.
		if r.With.ReplyTo.ok && r.With.ReplyTo.value != r.With.Topic.value {
			replies[r.With.ReplyTo.value] = true
		}
	}
	var all []NorthRoute
	for i, r := range spec.Routes {
		exit := r.Exit
		if !exit.given {
			exit = spec.Exit
		}
		topic, replyTo := r.With.Topic, r.With.ReplyTo
		if topic.ok && replies[topic.value] && r.With.Capability.value != "fetch" {
			c.report.problem(topic.position, "%s: `%s` is also a reply topic of %s; requests and replies need topics of their own", topic.place, topic.raw, b.place)
		}
		cache := c.graph.next(b, exit)
		k := c.oneCluster(cache, topic.text, replyTo.text)
		fetch, callers := c.fetchOf(b, &spec.Routes[i])
		overrides, more := c.overrides(r.With.Overrides, contract)
		callers = append(callers, more...)
		requests, answers := c.passing(cache, r.With.Topic.text, r.With.ReplyTo.text, r.With.Key.text, fetch != nil, contract)
		if key := r.With.Key; key.depends(c) {
			callers = append(callers, CallerValue{Header: -1, Parts: key.parts, at: key.text})
		}
		for _, when := range c.conditions(r.When) {
			all = append(all, NorthRoute{
				Binding: b.name, Methods: []MethodPattern{when.method}, Metadata: when.metadata, Cluster: k,
				Topic: topic.value, ReplyTo: replyTo.value, Contract: contract,
				Key: r.With.Key.value, Overrides: overrides, Guarded: c.demands(r.Guarded), Callers: callers, Fetch: fetch,
				Requests: requests, Replies: answers,
			})
		}
	}
	return all
}

// addresses reports two listeners that cannot listen at the same time.
func (c *compiler) addresses(all []Listener) {
	seen := map[int][]Listener{}
	for _, l := range all {
		for _, other := range seen[l.Port] {
			if l.Host == other.Host || everyHost(l.Host) || everyHost(other.Host) {
				c.report.problem(c.graph.bindings[l.Binding].at, "binding `%s` listens on %s, which binding `%s` takes already (%s); choose another port",
					l.Binding, l.Address(), other.Binding, other.Address())
			}
		}
		seen[l.Port] = append(seen[l.Port], l)
	}
}

func everyHost(h string) bool {
	ip := net.ParseIP(h)
	return ip != nil && ip.IsUnspecified()
}
