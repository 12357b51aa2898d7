package topology

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"kafkagrpc/wire"
)

// Fetching is how calls of a grpc-kafka binding read topics. What is 0 has its default.
type Fetching struct {
	Field      int32  `yaml:"reliability.field" is:"field" default:"32767" doc:"number of the field that tells each message's position in its topic"`
	Metadata   string `yaml:"reliability.metadata" is:"metadata" default:"last-message-id" doc:"metadata that holds the position to go on behind"`
	MaxFetches int    `yaml:"max-fetches" is:"count" default:"100" doc:"calls that read topics at once, of this instance"`
}

// Fetch is how a route's calls read its topic.
type Fetch struct {
	Fetching
	Filters []Filter // of which one takes each record that is read; none: all are
	Group   string   // what the consumer groups of callers that share the topic begin with
}

// Filter takes records by their key and headers.
type Filter struct {
	Key     []byte        // nil: any
	Headers []wire.Header // each must be among the record's
}

// Takes reports whether a record has the key and all of the headers.
func (f Filter) Takes(record wire.Record) bool {
	if f.Key != nil && (record.Key == nil || !bytes.Equal(f.Key, record.Key)) {
		return false
	}
	return !slices.ContainsFunc(f.Headers, func(want wire.Header) bool {
		return !slices.ContainsFunc(record.Headers, func(h wire.Header) bool { return h.Name == want.Name && bytes.Equal(h.Value, want.Value) })
	})
}

// Takes reports whether a record is one that calls are given.
func (f Fetch) Takes(record wire.Record) bool {
	return len(f.Filters) == 0 || slices.ContainsFunc(f.Filters, func(f Filter) bool { return f.Takes(record) })
}

// groupName is what callers may call the group that they share a topic in. It has no colon, and so cannot lead to another group.
var groupName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,100}$`)

// GroupOf is the consumer group of the callers that share the topic under a name. No remote has a group with a colon in its name.
func (f Fetch) GroupOf(name string) (group string, err error) {
	if !groupName.MatchString(name) {
		return "", fmt.Errorf("a name of 1 to 100 of a-z A-Z 0-9 . _ - is wanted")
	}
	return f.Group + name, nil
}

// groupPrefix keeps apart what must not share out a topic: bindings, topics, and routes that leave out other records than each other.
func (c *compiler) groupPrefix(b *binding, topic string, filters []Filter) string {
	prefix := c.doc.Name.value + "-" + b.name + ":" + topic + ":"
	if len(filters) == 0 {
		return prefix
	}
	return prefix + groupMark(filters)
}

// groupMark is a part of the name of a group.
func groupMark(filters []Filter) string {
	sum := sha256.New()
	for _, f := range filters {
		fmt.Fprintf(sum, "%q %t", f.Key, f.Key == nil)
		for _, h := range f.Headers {
			fmt.Fprintf(sum, " %q=%q", h.Name, h.Value)
		}
		fmt.Fprintln(sum)
	}
	return hex.EncodeToString(sum.Sum(nil)[:4]) + ":"
}

// fetchOf is what a route of a grpc-kafka binding reads, and what of it depends on who calls; nil for one that produces.
func (c *compiler) fetchOf(b *binding, r *grpcKafkaRoute) (f *Fetch, callers []CallerValue) {
	with := &r.With
	if with.Capability.value != "fetch" {
		if len(with.Filters) > 0 {
			c.report.problem(with.Filters[0].at, "%s is for `capability: fetch`; remove it", with.Filters[0].place)
		}
		return nil, nil
	}
	for _, t := range []text{with.ReplyTo.text, with.Acks, with.Key.text} {
		if t.given {
			c.report.problem(t.position, "%s is for `capability: produce`; remove it", t.place)
		}
	}
	if len(with.Overrides) > 0 {
		t := with.Overrides[0].name
		c.report.problem(t.position, "%s is for `capability: produce`; remove it", t.place)
	}
	for _, w := range r.When {
		if m, known := c.methods[w.Method.value]; w.Method.ok && known && !m.ServerStreams {
			c.report.problem(w.Method.position, "%s: `%s` answers with one message, and `capability: fetch` with any number; name a method that streams its answer",
				w.Method.place, w.Method.raw)
		}
	}
	f = &Fetch{Fetching: b.spec.(*grpcKafka).Options.Fetching}
	for _, w := range r.When {
		c.freeField(w.Method, f.Field)
	}
	for i := range with.Filters {
		given := &with.Filters[i]
		filter := Filter{}
		if given.Key.ok {
			filter.Key = []byte(given.Key.value)
			if given.Key.depends(c) {
				callers = append(callers, CallerValue{Filter: i + 1, Header: -1, Parts: given.Key.parts, at: given.Key.text})
			}
		}
		for _, h := range given.Headers {
			if h.value.ok {
				if h.value.depends(c) {
					callers = append(callers, CallerValue{Filter: i + 1, Header: len(filter.Headers), Parts: h.value.parts, at: h.value.text})
				}
				filter.Headers = append(filter.Headers, wire.Header{Name: h.name.value, Value: []byte(h.value.value)})
			}
		}
		if !given.Key.given && len(given.Headers) == 0 {
			c.report.problem(given.at, "%s takes every record; add a `key` or `headers`, or remove all filters", given.place)
		}
		f.Filters = append(f.Filters, filter)
	}
	f.Group = c.groupPrefix(b, with.Topic.value, f.Filters)
	return f, callers
}

// freeField reports replies whose messages have something else in the field of the position, which would take its place.
func (c *compiler) freeField(m methodPattern, number int32) {
	if !m.ok || m.value == "*" {
		return
	}
	for _, name := range c.methods.names() {
		if !MethodPattern(m.value).Matches(name) {
			continue
		}
		found, _ := c.protos.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(name, "/", ".")))
		method, ok := found.(protoreflect.MethodDescriptor)
		if !ok {
			continue
		}
		field := method.Output().Fields().ByNumber(protoreflect.FieldNumber(number))
		if field != nil && (field.Kind() != protoreflect.BytesKind || field.IsList()) {
			c.report.problem(m.position, "%s: `%s` of %s has the number %d, which is that of the position; choose another one in `options.reliability.field`, or make it bytes",
				m.place, field.Name(), method.Output().FullName(), number)
		}
	}
}

// text says what is read of a topic, of the headers the names.
func (f *Fetch) text() string {
	if len(f.Filters) == 0 {
		return "read"
	}
	var all []string
	for _, filter := range f.Filters {
		var one []string
		if filter.Key != nil {
			one = append(one, fmt.Sprintf("key %q", filter.Key))
		}
		if names := headerNames(filter.Headers); len(names) > 0 {
			one = append(one, "headers "+strings.Join(names, ", "))
		}
		all = append(all, strings.Join(one, " "))
	}
	return "read where " + strings.Join(all, " or ")
}

func (f *Fetch) json() object {
	return append(optionsJSON(f.Fetching), object{
		{"group", f.Group + "NAME"},
		{"filters", optional(each(f.Filters, func(f Filter) object {
			var key any
			if f.Key != nil {
				key = string(f.Key)
			}
			return object{{"key", key}, {"headers", optional(headerNames(f.Headers))}}
		}))},
	}...)
}

// group is what tells two routes of one topic apart besides their methods; "" for one that produces.
func (f *Fetch) group() string {
	if f == nil {
		return ""
	}
	return f.Group
}
