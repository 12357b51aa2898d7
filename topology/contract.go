package topology

import (
	"kafkagrpc/wire"
)

// contract is the record contract that the options of a binding make of the default one.
func (c *compiler) contract(o *contract) wire.Contract {
	w := wire.DefaultContract()
	names := map[string]bool{}
	for _, n := range []struct {
		given text
		name  *string
	}{
		{o.Service.text, &w.Service}, {o.Method.text, &w.Method}, {o.ReplyTo.text, &w.ReplyTo}, {o.CorrelationID.text, &w.CorrelationID},
		{o.Idempotency.text, &w.IdempotencyMetadata},
	} {
		if n.given.ok {
			*n.name = n.given.value
		}
	}
	for _, n := range []struct {
		given text
		name  string
	}{{o.Service.text, w.Service}, {o.Method.text, w.Method}, {o.ReplyTo.text, w.ReplyTo}, {o.CorrelationID.text, w.CorrelationID}} {
		if names[n.name] && n.given.ok {
			c.report.problem(n.given.position, "%s: another header has the name `%s` already; choose another", n.given.place, n.given.raw)
		}
		names[n.name] = true
	}
	for _, m := range o.AllowMetadata {
		if m.ok {
			w.AllowMetadata = append(w.AllowMetadata, m.value)
		}
	}
	return w
}
