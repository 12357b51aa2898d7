package topology

// maxRoutes bounds the routes of one listener or remote: each `when` of one binding is combined with each of the
// next one.
const maxRoutes = 10_000

func (m methodPattern) pattern() MethodPattern {
	if !m.given {
		return "*"
	}
	return MethodPattern(m.value)
}

// overlap reports whether a method exists that both patterns take.
func overlap(a, b MethodPattern) bool {
	return a == "*" || b == "*" || a.Matches(string(b)) || b.Matches(string(a))
}

// followed pairs each route of a binding with the binding that it leads to, the default exit last.
type followed struct {
	when    []condition
	guarded []Demand
	to      *binding
}

func (c *compiler) follow(b *binding, routes []route[methodWhen], fallback text) []followed {
	var all []followed
	for _, r := range routes {
		exit := r.Exit
		if !exit.given {
			exit = fallback
		}
		if len(r.Guarded) > 0 && exit.ok && fallback.ok && exit.value == fallback.value {
			c.open(fallback, b)
		}
		if to := c.graph.next(b, exit); to != nil {
			all = append(all, followed{c.conditions(r.When), c.demands(r.Guarded), to})
		}
	}
	if to := c.graph.next(b, fallback); to != nil {
		all = append(all, followed{c.conditions(nil), nil, to})
	}
	return all
}

// ahead is the binding behind the first route that leads on, for bindings whose routes have no conditions.
func (c *compiler) ahead(b *binding) *binding {
	if b == nil {
		return nil
	}
	l, ok := b.spec.(leaping)
	if !ok {
		return nil
	}
	fallback, routes := l.leaps()
	if len(routes) > 0 && routes[0].exit.given {
		fallback = routes[0].exit
	}
	return c.graph.next(b, fallback)
}
