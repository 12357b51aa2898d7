package topology

import (
	"slices"

	"kafkagrpc/wire"
)

func (c *compiler) remote(b *binding, spec *kafkaGRPC) Remote {
	group := c.doc.Name.value + "-" + b.name
	r := spec.Options.Remote
	r.Binding, r.Group, r.Table, r.Loop = b.name, group, group+"-table", group+"-loop"
	r.Contract = c.contract(&spec.Options.contract)
	r.Processing = c.processing(&spec.Options.Processing, group)
	if c.doc.Name.ok && !legalTopic(group+"-dead-letters") {
		c.report.problem(b.at, "the group of %s is `%s`, which cannot be part of a Kafka topic name (up to 236 of a-z A-Z 0-9 . _ -); rename the binding or change `name` of the file",
			b.place, group)
	}
	var topics []text
	for _, route := range spec.Routes {
		for _, w := range route.When {
			topics = append(topics, w.Topic.text, w.ReplyTo.text)
		}
		if len(route.When) == 0 {
			c.report.problem(route.at, "%s has no `when`; add one with the topics `topic` and `reply-to`", route.place)
		}
	}
	if entry := c.graph.bindings[spec.Entry.value]; entry != nil && slices.Contains(entries, entry.kind) {
		r.Cluster = c.oneCluster(entry, topics...)
	}
	r.Routes = c.remoteRoutes(b, spec)
	c.ownTopics(b, spec, r)
	return r
}

// ownTopics reports topics of a remote that would feed themselves.
func (c *compiler) ownTopics(b *binding, spec *kafkaGRPC, r Remote) {
	own := map[string]string{r.Table: "the table", r.Loop: "the loop", r.Processing.DeadLetter: "the dead-letter topic"}
	for _, route := range spec.Routes {
		for _, w := range route.When {
			if w.ReplyTo.ok {
				own[w.ReplyTo.value] = "a reply topic"
			}
		}
	}
	for _, route := range spec.Routes {
		for _, w := range route.When {
			if what := own[w.Topic.value]; w.Topic.ok && what != "" {
				c.report.problem(w.Topic.position, "%s: `%s` is also %s of %s; requests need topics of their own", w.Topic.place, w.Topic.raw, what, b.place)
			}
			if n := w.ReplyTo; n.ok && (n.value == r.Table || n.value == r.Loop || n.value == r.Processing.DeadLetter) {
				c.report.problem(n.position, "%s: `%s` is also the table, the loop or the dead-letter topic of %s; replies need topics of their own", n.place, n.raw, b.place)
			}
		}
	}
	if n := c.texts[&spec.Options.Processing.DeadLetter]; n.ok && (n.value == r.Table || n.value == r.Loop) {
		c.report.problem(n.position, "%s: `%s` is also the table or the loop of %s; dead letters need a topic of their own", n.place, n.raw, b.place)
	}
}

// remoteRoutes are each `when` of the kafka-grpc binding with each of the grpc client behind it, except those that
// no method can pass.
func (c *compiler) remoteRoutes(b *binding, spec *kafkaGRPC) []RemoteRoute {
	var all []RemoteRoute
	for i := range spec.Routes {
		route := &spec.Routes[i]
		event := c.event(b, route)
		if event == nil && route.With.Method.given {
			continue // reported
		}
		exit := route.Exit
		if !exit.given {
			exit = spec.Exit
		}
		client := c.graph.next(b, exit)
		if client == nil {
			continue
		}
		grpc := client.spec.(*grpcClient)
		for _, w := range route.When {
			requests, replies := c.remoteRecords(spec, w, event)
			before, ways := len(all), 0
			for _, f := range c.follow(client, grpc.Routes, grpc.Exit) {
				target, ok := c.target(grpc.Options.Target, *route, f.to)
				if !ok {
					continue
				}
				ways++
				for _, d := range f.guarded {
					c.report.problem(d.at.position, "%s: a route of %s leads records there, which do not tell who calls; give them a grpc client of their own", d.at.place, b.place)
				}
				for _, when := range f.when {
					taken := w.Method.pattern()
					if event != nil {
						taken = MethodPattern(event.Method)
					}
					if !overlap(taken, when.method) {
						continue
					}
					if event != nil && len(when.metadata) > 0 {
						c.report.problem(client.at, "%s has a route by metadata, and a route of %s leads plain events to it, which have none; give them a grpc client of their own",
							client.place, b.place)
					}
					if len(all) == maxRoutes {
						c.report.problem(b.at, "%s and the bindings behind it have more than %d combinations of routes", b.place, maxRoutes)
						return nil
					}
					all = append(all, RemoteRoute{
						Topic: w.Topic.value, ReplyTo: w.ReplyTo.value,
						Key: w.key(), Headers: w.headers(),
						Methods: []MethodPattern{taken, when.method}, Metadata: when.metadata, GRPC: client.name, Target: target, Event: c.eventOf(event, route, w),
						Requests: requests, Replies: replies,
					})
				}
			}
			if ways > 0 && len(all) == before {
				c.report.problem(w.at, "%s passes no method on: it has none in common with the routes of %s", w.place, client.place)
			}
		}
	}
	return all
}

// remoteRecords says what requests, or plain events, and their replies have to be like.
func (c *compiler) remoteRecords(spec *kafkaGRPC, w kafkaGRPCWhen, event *Event) (requests, replies *TopicModel) {
	entry := c.graph.bindings[spec.Entry.value]
	if entry == nil || !slices.Contains(entries, entry.kind) {
		return nil, nil
	}
	for _, topic := range c.onWay(entry, w.Topic.value) {
		c.requests[topic] = true
	}
	if event == nil {
		return c.records(entry, w.Topic.text, nil), c.records(entry, w.ReplyTo.text, nil)
	}
	return c.records(entry, w.Topic.text, &event.Request), c.records(entry, w.ReplyTo.text, &event.Reply)
}

// key is the record key that a route wants, nil for any.
func (w *kafkaGRPCWhen) key() []byte {
	if !w.Key.ok {
		return nil
	}
	return []byte(w.Key.value)
}

// headers are the record headers that a route wants, all of them.
func (w *kafkaGRPCWhen) headers() []wire.Header {
	var all []wire.Header
	for _, h := range w.Headers {
		if h.value.ok {
			all = append(all, wire.Header{Name: h.name.value, Value: []byte(h.value.value)})
		}
	}
	return all
}
