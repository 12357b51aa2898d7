package topology

import (
	"net/netip"
	"strings"
)

// cidr is a range of addresses.
type cidr struct {
	text
	prefix netip.Prefix
}

func (*cidr) regexp() string { return `^[0-9A-Fa-f:.]+/[0-9]{1,3}$` }

func (c *cidr) parse(value string) string {
	prefix, err := netip.ParsePrefix(value)
	if err != nil {
		return "must be a range of addresses, such as 10.0.0.0/8 or fd00::/8"
	}
	c.prefix = prefix.Masked()
	return ""
}

// way is where a tcp server leads clients of a port.
type way struct {
	cidr    cidr // not given: all
	exit    text
	guarded named[[]text]
}

// ways are those of a port, in the order in which they are tried. What comes behind one for all clients is none.
func waysOf(spec *tcpServer, port int) (all []way) {
	for _, r := range spec.Routes {
		exit := r.Exit
		if !exit.given {
			exit = spec.Exit
		}
		if len(r.When) == 0 {
			all = append(all, way{exit: exit, guarded: r.Guarded})
			if len(r.Guarded) == 0 {
				return all
			}
		}
		for _, w := range r.When {
			if len(w.Port) > 0 && !w.Port.contain(port) {
				continue
			}
			all = append(all, way{w.CIDR, exit, r.Guarded})
			if !w.CIDR.given && len(r.Guarded) == 0 {
				return all
			}
		}
	}
	// A server without any exit is reported by the graph, not once more for each port.
	if spec.Exit.given || len(spec.Routes) == 0 {
		all = append(all, way{exit: spec.Exit})
	}
	return all
}

// portExit is where a port leads, which clients it is for, none: all, and what it wants of their calls.
func (c *compiler) portExit(b *binding, spec *tcpServer, port int) (exit text, clients []netip.Prefix, gate []Demand, found bool) {
	ways := waysOf(spec, port)
	if len(ways) == 0 {
		return text{}, nil, nil, false
	}
	gate = c.demands(ways[0].guarded)
	for _, w := range ways {
		if w.exit.value != ways[0].exit.value && w.exit.ok && ways[0].exit.ok {
			c.report.problem(w.exit.position, "%s: port %d of %s leads some clients elsewhere, by their `cidr`; a port leads to one binding, so give this one a port of its own", w.exit.place, port, b.place)
			break
		}
		if !sameDemands(gate, c.demands(w.guarded)) {
			c.report.problem(w.exit.position, "%s: port %d of %s has routes with other guards; a port has one, so give this one a port of its own, or guard routes behind it", w.exit.place, port, b.place)
			break
		}
		if !w.cidr.given {
			clients = nil
			break // all are let in
		}
		clients = append(clients, w.cidr.prefix)
	}
	return ways[0].exit, clients, gate, true
}

// from says which clients a listener is for, "" where it is for all.
func (l Listener) from() string {
	if len(l.Clients) == 0 {
		return ""
	}
	return " from " + strings.Join(each(l.Clients, netip.Prefix.String), ", ")
}
