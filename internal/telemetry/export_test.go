package telemetry

// DropEvent counts an event that was not printed.
func DropEvent(m *Metrics) { m.eventDropped() }
