package topology

import (
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"kafkagrpc/wire"
)

// Event makes a route one of plain events: records without the contract's headers, each of which calls one method.
type Event struct {
	Method  string // "package.Service/Method"
	Streams bool   // several replies to an event
	Input   protoreflect.MessageDescriptor
	Output  protoreflect.MessageDescriptor
	Request Encoding // of the values of events
	Reply   Encoding // of those of replies; its zero value: nothing is replied

	Key        Expression // the idempotency key; nil: topic/partition/offset
	KeyText    string     // as the file writes it
	Metadata   []EventMetadata
	Tombstones Tombstones
}

// Same reports whether two events are called in the same way.
func (e *Event) Same(as *Event) bool { return same(reflect.ValueOf(e), reflect.ValueOf(as)) }

// Encoding is how a value stands for a message.
type Encoding struct {
	Name          string // "" where there are no values
	IgnoreUnknown bool   // fields that the message lacks are left out; else a value that has some does not fit

	Registry *Registry // that has their schemas; nil: they are framed by none
	Schema   SchemaRef // of replies
}

// The encodings.
const (
	EncodingJSON     = "json"
	EncodingProtobuf = "protobuf"
	EncodingAvro     = "avro"
)

// Tombstones is what becomes of events without a value.
type Tombstones string

const (
	SkipTombstones       Tombstones = "skip"
	DeadLetterTombstones Tombstones = "dead-letter"
)

// EventMetadata is an entry of the metadata of the calls of events.
type EventMetadata struct {
	Name  string
	Value Expression
}

// Compactable are the topics on which each record stands for itself, so that compaction takes nothing that a later record of its key does not
// replace: topics of plain events alone, and of their replies where these are one record each.
func (r Remote) Compactable() (topics []string) {
	for _, topic := range append(r.Inputs(), r.Outputs()...) {
		if !slices.ContainsFunc(r.Routes, func(t RemoteRoute) bool { return !t.mayBeCompacted(topic) }) {
			topics = append(topics, topic)
		}
	}
	return topics
}

// mayBeCompacted reports whether compaction of a topic takes nothing that the route needs.
func (r RemoteRoute) mayBeCompacted(topic string) bool {
	switch {
	case r.Event == nil:
		return r.Topic != topic && r.ReplyTo != topic
	case r.ReplyTo == topic:
		return !r.Event.Streams
	}
	return true
}

// EventRoute is the route that takes a record of a topic as a plain event: one that has no header of the contract. A record that no such route
// takes is still a request, and a wrong one, where the topic has routes for those, too; else it is an event that nothing is done with, and the
// route is nil.
func (r Remote) EventRoute(topic string, record wire.Record) (route *RemoteRoute, isEvent bool) {
	events, requests := false, false
	for i := range r.Routes {
		route := &r.Routes[i]
		if route.Topic != topic {
			continue
		}
		if route.Event == nil {
			requests = true
			continue
		}
		if !events && r.Contract.Marks(record.Headers) {
			return nil, false
		}
		events = true
		if route.Matches(route.Event.Method, record) {
			return route, true
		}
	}
	return nil, events && !requests
}

// event compiles what a route of the file says of plain events. It answers nil where the route is one of requests, or wrong.
func (c *compiler) event(b *binding, route *kafkaGRPCRoute) *Event {
	w := &route.With
	if !w.Method.given {
		c.onlyEvents(route)
		return nil
	}
	e := &Event{Tombstones: SkipTombstones}
	ok := true
	for _, when := range route.When {
		if when.Method.given {
			c.report.problem(when.Method.position, "%s: the method of a route of plain events is %s; remove one of them", when.Method.place, w.Method.place)
			ok = false
		}
	}
	if w.Reply.given() && !slices.ContainsFunc(route.When, func(when kafkaGRPCWhen) bool { return when.ReplyTo.given }) {
		c.report.problem(w.Reply.at, "%s has no effect: no `when` of %s has a `reply-to`; add one, or remove it", w.Reply.place, route.place)
		ok = false
	}
	method := c.eventMethod(w.Method)
	if method != nil {
		e.Method, e.Streams, e.Input, e.Output = w.Method.value, method.IsStreamingServer(), method.Input(), method.Output()
	}
	e.Request, e.Reply = w.Request.encoding(), w.Reply.encoding()
	e.Request.IgnoreUnknown = w.Request.UnknownFields.value == "ignore"
	e.Request.Registry = registryFor(c, w.Request.Encoding, w.Request.Catalog)
	e.Reply.Registry = registryFor(c, w.Reply.Encoding, w.Reply.Catalog)
	if t := w.Tombstones; t.ok {
		e.Tombstones = Tombstones(t.value)
	}
	var in protoreflect.MessageDescriptor
	if method != nil {
		in = e.Input
	}
	if w.IdempotencyKey.ok {
		e.Key, e.KeyText = c.expression(w.IdempotencyKey, in), w.IdempotencyKey.raw
		if e.Key != nil && !e.Key.Varies() {
			c.report.problem(w.IdempotencyKey.position, "%s is the same for every event, so that only one is called: use ${message.key}, ${message.headers.NAME} or ${message.value.FIELD}",
				w.IdempotencyKey.place)
		}
	}
	e.Metadata = c.eventMetadata(w.Metadata, in)
	if method == nil && c.unread && w.Method.ok {
		e.Method = w.Method.value
		return e
	}
	if method == nil || !ok {
		return nil
	}
	return e
}

// eventOf is the event of one `when` of its route, which may ask for no reply, or for one with the schema of its topic.
func (c *compiler) eventOf(e *Event, route *kafkaGRPCRoute, w kafkaGRPCWhen) *Event {
	if e == nil {
		return nil
	}
	of := *e
	switch {
	case !w.ReplyTo.given:
		of.Reply = Encoding{}
	case of.Reply.Registry != nil:
		named := route.With.Reply.Catalog[0]
		message := "<message>"
		if e.Output != nil {
			message = string(e.Output.FullName())
		}
		of.Reply.Schema = c.schemaRef(named.name, named.value, w.ReplyTo.value, message)
	}
	return &of
}

// eventMethod is the method that events call.
func (c *compiler) eventMethod(m methodName) protoreflect.MethodDescriptor {
	if !m.ok {
		return nil
	}
	service, name, _ := strings.Cut(m.value, "/")
	found, _ := c.protos.FindDescriptorByName(protoreflect.FullName(service))
	s, isService := found.(protoreflect.ServiceDescriptor)
	if _, known := c.methods[m.value]; (!known || !isService) && c.unread {
		c.report.warn(m.position, "%s: `%s` is not checked, as protos of a schema registry are not known here", m.place, m.raw)
		return nil
	} else if !known || !isService {
		c.report.problem(m.position, "%s: no method of the catalogs is `%s`%s", m.place, m.raw, hint(m.value, c.methods.names()))
		return nil
	}
	method := s.Methods().ByName(protoreflect.Name(name))
	if method.IsStreamingClient() {
		c.report.problem(m.position, "%s: `%s` takes a stream of messages, and an event is one: name a method that takes one message", m.place, m.raw)
		return nil
	}
	return method
}

// eventMetadata is the metadata of the calls of a route.
func (c *compiler) eventMetadata(given named[text], in protoreflect.MessageDescriptor) (all []EventMetadata) {
	for _, m := range given {
		var name metadataName
		if wrong := name.parse(m.name.value); wrong != "" {
			c.report.problem(m.name.position, "%s: the name %s, not `%s`", m.name.place.key(m.name.value), wrong, m.name.raw)
			continue
		}
		if m.value.ok {
			if value := c.expression(m.value, in); value != nil {
				all = append(all, EventMetadata{name.text.value, value})
			}
		}
	}
	return all
}

// onlyEvents reports what a route has that only plain events have.
func (c *compiler) onlyEvents(route *kafkaGRPCRoute) {
	w := &route.With
	for _, key := range []struct {
		given bool
		at    position
		place place
	}{
		{w.Request.given(), w.Request.at, w.Request.place}, {w.Reply.given(), w.Reply.at, w.Reply.place},
		{w.IdempotencyKey.given, w.IdempotencyKey.position, w.IdempotencyKey.place}, {w.Tombstones.given, w.Tombstones.position, w.Tombstones.place},
		{len(w.Metadata) > 0, route.at, place{route.place.owner, route.place.path + ".with.metadata"}},
	} {
		if key.given {
			c.report.problem(key.at, "%s is for routes of plain events; add `with.method`, the method that they call, or remove it", key.place)
		}
	}
	for _, when := range route.When {
		if !when.ReplyTo.given {
			c.report.problem(when.at, "%s is missing; add it, or `with.method` for plain events", when.place.key("reply-to"))
		}
	}
}
