package topology

import (
	"slices"
	"strings"
	"time"

	"kafkagrpc/wire"
)

// overrides are the headers that a route adds, in the order of the file, and those of them that depend on who calls.
func (c *compiler) overrides(given named[perCaller], w wire.Contract) (headers []wire.Header, callers []CallerValue) {
	for _, o := range given {
		name := o.name.value
		switch {
		case !legalHeader.MatchString(name):
			c.report.problem(o.name.position, "%s: `%s` must be a header name of printable characters without spaces", o.name.place, name)
		case slices.Contains([]string{w.Service, w.Method, w.ReplyTo, w.CorrelationID, "traceparent", "tracestate"}, name),
			strings.HasPrefix(name, "grpc:"), strings.HasPrefix(name, "zilla:"):
			c.report.problem(o.name.position, "%s: `%s` must be another header name: this one has a fixed meaning in the records", o.name.place, name)
		case o.value.ok:
			if o.value.depends(c) {
				callers = append(callers, CallerValue{Header: len(headers), Parts: o.value.parts, at: o.value.text})
			}
			h := wire.Header{Name: name, Value: []byte(o.value.value)}
			if r, err := w.DecodeRequest([]wire.Header{h}, time.Time{}); err != nil {
				c.report.problem(o.name.position, "%s: `%s` cannot be read: %v", o.name.place, name, err)
			} else if r.LeftOut.Count > 0 {
				c.report.problem(o.name.position, "%s: `%s` is no metadata: %s", o.name.place, name, r.LeftOut.First)
			}
			headers = append(headers, h)
		}
	}
	return headers, callers
}
