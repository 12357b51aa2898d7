package topology

import "slices"

// meetings reports requests that are their own replies and that a remote answers as well. It warns where a listener and a remote of the
// same file share a topic and cannot understand each other, or what one says has no effect for the other, and where two remotes would both
// execute the requests of one topic.
func (c *compiler) meetings(t *Topology) {
	for _, r := range t.northRoutes() {
		if r.Target != nil || r.Fetch != nil {
			continue
		}
		for _, remote := range t.Remotes {
			if r.Cluster != remote.Cluster || !takes(remote, r.Topic) {
				continue
			}
			at := c.graph.bindings[r.Binding]
			if r.ReplyTo == r.Topic {
				c.report.problem(at.at, "%s has the requests in topic `%s` for their replies, and binding `%s` answers them; use another topic, or another `reply-to`",
					at.place, r.Topic, remote.Binding)
				continue
			}
			if r.ReplyTo == "" && takesEvents(remote, r.Topic) {
				continue
			}
			if r.ReplyTo == "" {
				c.report.warn(at.at, "%s writes one-way calls to topic `%s`, where they are no requests to binding `%s` and become dead letters; use another topic, or add a `reply-to`",
					at.place, r.Topic, remote.Binding)
				continue
			}
			a, b := r.Contract, remote.Contract
			if a.Service != b.Service || a.Method != b.Method || a.ReplyTo != b.ReplyTo || a.CorrelationID != b.CorrelationID ||
				a.IdempotencyMetadata != b.IdempotencyMetadata {
				c.report.warn(at.at, "%s and binding `%s` share topic `%s`, but name headers differently; give both the same `options.correlation` and `options.idempotency`",
					at.place, remote.Binding, r.Topic)
			}
			if remote.Processing.Order == OrderKey && r.Key == "" {
				c.report.warn(at.at, "%s writes each request to topic `%s` under a key of its own, so that `processing.order` of binding `%s` puts none behind another; "+
					"add a `with.key`, or use the order `partition`", at.place, r.Topic, remote.Binding)
			}
			if !repliesTo(remote, r.ReplyTo) {
				c.report.warn(at.at, "%s expects the replies to topic `%s` in `%s`, where binding `%s` never writes; add a route with this `reply-to` there",
					at.place, r.Topic, r.ReplyTo, remote.Binding)
			}
		}
	}
	for i, r := range t.Remotes {
		for _, other := range t.Remotes[:i] {
			for _, topic := range r.Inputs() {
				if r.Cluster == other.Cluster && takes(other, topic) {
					b := c.graph.bindings[r.Binding]
					c.report.warn(b.at, "%s reads topic `%s`, which binding `%s` reads too: each of them answers every request in it", b.place, topic, other.Binding)
				}
			}
		}
	}
}

func takes(r Remote, topic string) bool {
	for _, route := range r.Routes {
		if route.Topic == topic {
			return true
		}
	}
	return false
}

func takesEvents(r Remote, topic string) bool {
	return slices.ContainsFunc(r.Routes, func(route RemoteRoute) bool { return route.Topic == topic && route.Event != nil })
}

func repliesTo(r Remote, topic string) bool {
	for _, route := range r.Routes {
		if route.ReplyTo == topic {
			return true
		}
	}
	return false
}
