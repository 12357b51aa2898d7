package topology

import (
	"path"
	"slices"
	"strings"
)

// Recorded are the metrics that a grpc binding records, besides those that are always there.
type Recorded struct {
	Binding string
	Names   []string // of GRPCMetrics, in its order
}

// GRPCMetrics are the metrics that grpc bindings can record.
func GRPCMetrics() []string {
	return []string{"grpc.active.requests", "grpc.duration", "grpc.request.size", "grpc.response.size", "grpc.requests.per.rpc", "grpc.responses.per.rpc"}
}

// otherMetrics may be selected, as in the original, but are not recorded.
var otherMetrics = []string{
	"http.active.requests", "http.duration", "http.request.size", "http.response.size",
	"stream.active.received", "stream.active.sent", "stream.opens.received", "stream.opens.sent", "stream.data.received",
	"stream.data.sent", "stream.errors.received", "stream.errors.sent", "stream.closes.received", "stream.closes.sent",
}

// recorded are the metrics that the bindings select, of those that the file lists.
func (c *compiler) recorded() (all []Recorded) {
	known := append(GRPCMetrics(), otherMetrics...)
	var listed []string
	for _, t := range c.doc.Telemetry.Metrics {
		switch {
		case !t.ok:
		case strings.Contains(t.value, "*"):
			c.report.problem(t.position, "%s must be the name of a metric, not `%s`: only bindings select by patterns; write the names out", t.place, t.raw)
		case !slices.Contains(known, t.value):
			c.report.problem(t.position, "%s: no metric is called `%s`%s", t.place, t.raw, metricHint(t.value, known))
		default:
			listed = append(listed, t.value)
		}
	}
	for b := range c.graph.each {
		spec, ok := b.spec.(interface{ selected() []text })
		if !ok {
			continue
		}
		records := strings.HasPrefix(b.kind, "grpc ")
		names := map[string]bool{}
		for _, t := range spec.selected() {
			if !t.ok {
				continue
			}
			matched := matching(t.value, known)
			if len(matched) == 0 {
				c.report.problem(t.position, "%s: no metric is called `%s`%s", t.place, t.raw, metricHint(t.value, known))
			}
			if records {
				for _, name := range c.selects(t, matched, listed) {
					names[name] = true
				}
			}
		}
		if len(names) > 0 {
			r := Recorded{Binding: b.name}
			for _, name := range GRPCMetrics() {
				if names[name] {
					r.Names = append(r.Names, name)
				}
			}
			all = append(all, r)
		}
	}
	return all
}

// selects are the metrics that a name or pattern makes a grpc binding record. That it selects others is a warning.
func (c *compiler) selects(t text, matched, listed []string) (names []string) {
	if len(matched) == 0 {
		return nil
	}
	var other []string
	unlisted := true
	for _, name := range matched {
		switch {
		case !slices.Contains(listed, name):
		case slices.Contains(otherMetrics, name):
			other, unlisted = append(other, name), false
		default:
			names, unlisted = append(names, name), false
		}
	}
	switch {
	case unlisted:
		c.report.warn(t.position, "%s has no effect: `telemetry.metrics` of the file lists no such metric; add %s there", t.place, strings.Join(matched, ", "))
	case len(other) > 0:
		c.report.warn(t.position, "%s: not recorded: %s; calls are measured, not what they go through; use grpc.*", t.place, strings.Join(other, ", "))
	}
	return names
}

// matching are the names that a pattern takes, in which * stands for any text.
func matching(pattern string, names []string) (matched []string) {
	if strings.ContainsAny(pattern, `?[\/`) {
		return nil
	}
	for _, name := range names {
		if ok, err := path.Match(pattern, name); err == nil && ok {
			matched = append(matched, name)
		}
	}
	return matched
}

// metricHint names the nearest metric, or for a pattern the nearest group of them, else all groups.
func metricHint(name string, known []string) string {
	groups := []string{"grpc.*", "http.*", "stream.*"}
	if near := nearest(name, append(groups, known...)); near != "" {
		return "; did you mean `" + near + "`?"
	}
	return "; known: " + strings.Join(groups, ", ")
}
