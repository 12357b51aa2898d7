package topology

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// live are the parts of a topology that what runs looks at anew for each call or connection, by their types and fields: they can change
// while it runs. All others, also those that are yet to come, need a restart.
var live = map[string]bool{
	"Topology.Methods":                 true,
	"Topology.Protos":                  true,
	"Listener.Clients":                 true,
	"Listener.TLS":                     true, // but not whether there is any
	"Listener.Authorities":             true,
	"Listener.Headers":                 true,
	"Listener.Routes":                  true, // but not their topics
	"Listener.Tokens":                  true,
	"Listener.Certificates":            true,
	"Topology.Guards":                  true,
	"Telemetry.Attributes":             true,
	"Remote.Routes":                    true, // but not their topics
	"Remote.Expiry":                    true,
	"Remote.MaxResult":                 true,
	"Processing.MaxInFlight":           true,
	"Processing.MaxInFlightBytes":      true,
	"Processing.MaxInFlightTotal":      true,
	"Processing.MaxInFlightTotalBytes": true,
	"Processing.Timeout":               true,
	"Processing.StreamIdle":            true,
	"Processing.MaxAge":                true,
	"Processing.RetryCodes":            true,
	"Processing.RetryInitial":          true,
	"Processing.RetryMax":              true,
	"Processing.RetryMaxElapsed":       true,
	"Processing.RetryParkAfter":        true,
	"Processing.BreakerFailures":       true,
	"Processing.BreakerOpen":           true,
}

// told are the keys of what no option declares.
var told = map[string]string{
	"Topology.Namespace": "name", "Topology.Guards": "guards", "Topology.Telemetry": "telemetry", "Telemetry.Attributes": "telemetry.attributes", "Telemetry.Stdout": "telemetry.exporters",
	"Telemetry.OTLP": "telemetry.exporters", "Telemetry.Prometheus": "telemetry.exporters", "Telemetry.Recorded": "telemetry.metrics",
	"Listener.Host": "options.host", "Listener.Port": "options.port", "Listener.Clients": "routes", "Listener.Routes": "routes",
	"Remote.Routes": "routes", "Remote.Contract": "options", "Processing.DeadLetter": "options.processing.dead-letter",
	"Cluster.Brokers": "options.servers", "Cluster.Rack": "options.client-rack", "Cluster.SASL": "options", "Cluster.TLS": "exit",
}

// Difference is what becomes other with another topology.
type Difference struct {
	Changes []string // what can change while the program runs, each once
	Restart Problems // what cannot, at its place in the new file
}

// Compare says what is other in the next topology of a file. Own are the gRPC services that the program answers itself where no route names them.
func (t *Topology) Compare(next *Topology, own ...string) Difference {
	d := &difference{next: next, own: own, report: newReport(next.File)}
	ignored := map[string]bool{"File": true, "Warnings": true, "Listeners": true, "Remotes": true, "Registries": true, "RegistryProtos": true}
	d.structs(reflect.ValueOf(*t), reflect.ValueOf(*next), place{}, "", ignored)
	d.listeners(t, next)
	d.remotes(t, next)
	d.clusters(t, next)
	d.registryProtos(t, next)
	running := t.AllModels()
	for _, m := range next.AllModels() {
		if m.Registry != nil && !slices.ContainsFunc(running, m.Same) {
			d.report.problem(d.next.where(place{path: "catalogs"}), "model %s, whose schema a registry has, needs a restart", m)
		}
	}
	d.report.sort()
	return Difference{Changes: d.changes, Restart: d.report.problems}
}

// difference is one comparison.
type difference struct {
	next    *Topology
	own     []string
	report  *report
	changes []string
}

// structs compares the fields of two structs of one type, which stand at a place of the file, with options below a key of it.
func (d *difference) structs(a, b reflect.Value, at place, options string, ignored map[string]bool) {
	for i := range a.NumField() {
		f := a.Type().Field(i)
		name := a.Type().Name() + "." + f.Name
		if !f.IsExported() || ignored[f.Name] || same(a.Field(i), b.Field(i)) {
			continue
		}
		where := at
		switch key, option := told[name], f.Tag.Get("yaml"); {
		case key != "":
			where = at.key(key)
		case option != "":
			where = at.key(options + option)
		}
		switch {
		case live[name]:
			d.changed(where, f.Name)
		case f.Type == reflect.TypeFor[Processing](), f.Type == reflect.TypeFor[Server]():
			inner := options
			if option := f.Tag.Get("yaml"); option != "" {
				inner += option + "."
			}
			d.structs(a.Field(i), b.Field(i), at, inner, nil)
		case f.Type == reflect.TypeFor[Telemetry]():
			d.structs(a.Field(i), b.Field(i), place{}, "", nil)
		default:
			d.restart(where)
		}
	}
}

func (d *difference) changed(at place, field string) {
	what := at.String()
	switch field {
	case "Methods", "Protos":
		what = "the protos"
	case "TLS", "Authorities":
		what = "certificates or other TLS of " + at.owner
	case "Tokens", "Certificates":
		what = "where callers of " + at.owner + " are known from"
	case "Routes", "Headers":
		what = "routes or services of " + at.owner
	case "Clients":
		what = "clients of " + at.owner
	}
	if !slices.Contains(d.changes, what) {
		d.changes = append(d.changes, what)
	}
}

// restart reports that what stands at a place cannot change. Where the new file says nothing there, it is told what is around.
func (d *difference) restart(at place) {
	d.report.problem(d.next.where(at), "%s needs a restart", at)
}

// where is a place in the file, or of what is around it.
func (t *Topology) where(at place) position {
	for {
		if m, ok := t.said[at]; ok {
			return m.position
		}
		switch i := strings.LastIndexAny(at.path, ".["); {
		case i >= 0:
			at.path = at.path[:i]
		case at.path != "" && at.owner != "":
			at.path = ""
		case at.owner != "":
			name := strings.TrimSuffix(strings.TrimPrefix(at.owner, "binding `"), "`")
			at = place{path: "bindings." + name}
		default:
			return position{}
		}
	}
}

// bindingPlace is where a binding is.
func bindingPlace(name string) place { return place{owner: "binding `" + name + "`"} }

// paired are the members of two lists that have the same key, and those that only one of them has. Of members with one key, the nth of both are a pair.
func paired[T any](a, b []T, key func(T) string) (pairs [][2]T, removed, added []T) {
	numbered := func(all []T) (keys []string, by map[string]T) {
		by, count := map[string]T{}, map[string]int{}
		for _, v := range all {
			k := key(v)
			count[k]++
			k += "#" + strconv.Itoa(count[k])
			keys, by[k] = append(keys, k), v
		}
		return keys, by
	}
	aKeys, aBy := numbered(a)
	bKeys, bBy := numbered(b)
	for _, k := range aKeys {
		if v, ok := bBy[k]; ok {
			pairs = append(pairs, [2]T{aBy[k], v})
		} else {
			removed = append(removed, aBy[k])
		}
	}
	for _, k := range bKeys {
		if _, ok := aBy[k]; !ok {
			added = append(added, bBy[k])
		}
	}
	return pairs, removed, added
}

func second[T any](pair [2]T) T { return pair[1] }

func (d *difference) listeners(t, next *Topology) {
	pairs, removed, added := paired(t.Listeners, next.Listeners, func(l Listener) string { return l.Binding })
	for _, l := range slices.Concat(removed, added) {
		d.restart(bindingPlace(l.Binding).key("options.port"))
	}
	for _, pair := range pairs {
		at := bindingPlace(pair[0].Binding)
		if (pair[0].TLS == nil) != (pair[1].TLS == nil) {
			d.report.problem(d.next.where(at), "whether %s leads to a tls server needs a restart", at)
			continue
		}
		ignored := map[string]bool{"Server": true, "GRPC": true, "Browsers": true}
		if !same(reflect.ValueOf(pair[0].Browsers), reflect.ValueOf(pair[1].Browsers)) {
			d.report.problem(d.next.where(at), "`options.access-control` of the http server behind %s needs a restart", at)
		}
		d.structs(reflect.ValueOf(pair[0]), reflect.ValueOf(pair[1]), at, "", ignored)
		grpc := bindingPlace(pair[1].GRPC)
		if pair[0].GRPC != pair[1].GRPC {
			d.report.problem(d.next.where(grpc), "%s, where calls of %s go first, needs a restart: it was `%s`", grpc, at, pair[0].GRPC)
		}
		d.structs(reflect.ValueOf(pair[0].Server), reflect.ValueOf(pair[1].Server), grpc, "options.", nil)
		for _, service := range d.own {
			if pair[0].names(service) != pair[1].names(service) {
				d.report.problem(d.next.where(grpc.key("routes")), "whether a route of %s names service %s needs a restart: the program answers it itself else", grpc, service)
			}
		}
	}
	// What is written and read for the calls of all listeners.
	var topics, replies []string
	for _, r := range t.everyNorthRoute() {
		if r.Target == nil {
			topics, replies = append(topics, routeTopic(r)), append(replies, replyName(r))
		}
	}
	for _, r := range next.everyNorthRoute() {
		switch at := bindingPlace(r.Binding); {
		case r.Target != nil:
		case !slices.Contains(topics, routeTopic(r)):
			d.topic(at, r.Topic)
		case r.ReplyTo != "" && !slices.Contains(replies, replyName(r)):
			d.topic(at, r.ReplyTo)
		}
	}
}

// names reports whether a route of a listener names a service.
func (l Listener) names(service string) bool {
	return slices.ContainsFunc(l.Routes, func(r NorthRoute) bool { return r.Names(service) })
}

// everyNorthRoute are the routes of all listeners.
func (t *Topology) everyNorthRoute() (all []NorthRoute) {
	for _, l := range t.Listeners {
		all = append(all, l.Routes...)
	}
	return all
}

// routeTopic is the topic of a route, with what is done with it.
func routeTopic(r NorthRoute) string {
	if r.Fetch != nil {
		return "read " + r.Cluster.Binding + " " + r.Topic
	}
	return "write " + r.Cluster.Binding + " " + r.Topic
}

// replyName is what replies to calls of a route are found by.
func replyName(r NorthRoute) string {
	return r.Cluster.Binding + " " + r.ReplyTo + " " + r.Contract.CorrelationID
}

// topic reports one that is not read or written yet, where the file names it.
func (d *difference) topic(of place, topic string) {
	at := d.next.where(of.key("routes"))
	best := place{}
	for p, m := range d.next.said {
		if p.owner == of.owner && m.topic == topic && (best == place{} || p.path < best.path) {
			best, at = p, m.position
		}
	}
	d.report.problem(at, "topic `%s` of %s needs a restart", topic, of)
}

func (d *difference) remotes(t, next *Topology) {
	pairs, removed, added := paired(t.Remotes, next.Remotes, func(r Remote) string { return r.Binding })
	for _, r := range slices.Concat(removed, added) {
		d.restart(bindingPlace(r.Binding))
	}
	for _, pair := range pairs {
		running, wanted := pair[0], pair[1]
		at := bindingPlace(wanted.Binding)
		d.structs(reflect.ValueOf(running), reflect.ValueOf(wanted), at, "options.", map[string]bool{"Group": true, "Table": true, "Loop": true, "Cluster": true})
		for _, topics := range []func(Remote) []string{Remote.Inputs, Remote.Outputs, Remote.Compactable} {
			a, b := topics(running), topics(wanted)
			for _, topic := range slices.Concat(a, b) {
				if slices.Contains(a, topic) != slices.Contains(b, topic) {
					d.topic(at, topic)
				}
			}
		}
		if running.Cluster.Binding != wanted.Cluster.Binding {
			d.restart(at.key("entry"))
		}
		d.events(at, running, wanted)
	}
}

// events reports those that need a schema registry and are other than before: registries are asked at the start.
func (d *difference) events(at place, running, wanted Remote) {
	for _, r := range wanted.Routes {
		if r.Event == nil || r.Event.Request.Registry == nil && r.Event.Reply.Registry == nil {
			continue
		}
		if !slices.ContainsFunc(running.Routes, func(known RemoteRoute) bool { return known.Event != nil && known.Event.Same(r.Event) }) {
			d.report.problem(d.next.where(at.key("routes")), "plain events of %s that call %s need a restart: a schema registry has their schemas", at, r.Event.Method)
		}
	}
}

// registryProtos reports protos that are to come from somewhere else: registries are followed from the start on. A newer version of one is none of that.
func (d *difference) registryProtos(t, next *Topology) {
	whence := func(p ProtoOfRegistry) ProtoOfRegistry {
		p.ID = 0
		return p
	}
	if !same(reflect.ValueOf(each(t.RegistryProtos, whence)), reflect.ValueOf(each(next.RegistryProtos, whence))) {
		d.report.problem(d.next.where(place{path: "catalogs"}), "which protos schema registries have needs a restart")
	}
}

func (d *difference) clusters(t, next *Topology) {
	pairs, removed, added := paired(t.Clusters(), next.Clusters(), func(c *Cluster) string { return c.Binding })
	for _, c := range added {
		d.restart(bindingPlace(c.Binding))
	}
	for _, c := range removed {
		if slices.ContainsFunc(t.Remotes, func(r Remote) bool { return r.Cluster == c }) {
			d.restart(bindingPlace(c.Binding))
		}
	}
	for _, pair := range pairs {
		at := bindingPlace(pair[1].Binding)
		d.structs(reflect.ValueOf(*pair[0]), reflect.ValueOf(*pair[1]), at, "", map[string]bool{"TLS": true})
		switch a, b := pair[0].TLS, pair[1].TLS; {
		case (a == nil) != (b == nil):
			d.report.problem(d.next.where(at), "whether %s leads to a tls client needs a restart", at)
		case a != nil && !same(reflect.ValueOf(a.Config), reflect.ValueOf(b.Config)):
			d.changed(bindingPlace(b.Binding), "TLS")
		}
	}
}

// RenewClusters lets connections to Kafka from now on have the TLS that the next topology says.
func (t *Topology) RenewClusters(next *Topology) {
	pairs, _, _ := paired(t.Clusters(), next.Clusters(), func(c *Cluster) string { return c.Binding })
	for _, pair := range pairs {
		if pair[0].TLS != nil && pair[1].TLS != nil {
			pair[0].TLS.Renew(pair[1].TLS.Config)
		}
	}
}

// Continue lets what is the same as in the topology that runs be the same objects, so that their users need nothing new for them, and puts listeners
// and remotes in its order. It is called before anybody uses t, which needs no restart.
func (t *Topology) Continue(running *Topology) {
	listeners, _, _ := paired(running.Listeners, t.Listeners, func(l Listener) string { return l.Binding })
	remotes, _, _ := paired(running.Remotes, t.Remotes, func(r Remote) string { return r.Binding })
	t.Listeners, t.Remotes = each(listeners, second[Listener]), each(remotes, second[Remote])
	secured := map[string]*ClientTLS{}
	events := map[string][]*Event{}
	for _, target := range running.Targets() {
		if target.TLS != nil {
			secured[target.TLS.Binding] = target.TLS
		}
	}
	for _, r := range running.Remotes {
		for _, route := range r.Routes {
			if route.Event != nil {
				events[r.Binding] = append(events[r.Binding], route.Event)
			}
		}
	}
	target := func(to *Target) {
		if to.TLS == nil {
			return
		}
		if known := secured[to.TLS.Binding]; known != nil && same(reflect.ValueOf(known), reflect.ValueOf(to.TLS)) {
			to.TLS = known
		}
	}
	for _, r := range t.everyNorthRoute() {
		if r.Target != nil {
			target(r.Target)
		}
	}
	for _, r := range t.Remotes {
		for i := range r.Routes {
			route := &r.Routes[i]
			target(&route.Target)
			for _, known := range events[r.Binding] {
				if route.Event != nil && known.Same(route.Event) {
					route.Event = known
				}
			}
		}
	}
}
