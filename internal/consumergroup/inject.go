package consumergroup

// Inject sends payload under key to the handler of a partition on nobody's behalf: work of the handler's own, such
// as cleaning its state, that needs a valid callback of that partition. It never waits; the caller bounds how much it
// injects before that is handled (Delivery.Then tells when it is acknowledged). False means that the group does not
// own the partition, or is about to give it up. True does not promise a callback: the session may end before.
// A delivery on its way keeps the claim from ending its drain, so the handler should be quick about it.
func (g *Group) Inject(topic string, partition int32, key string, payload any) bool {
	c := g.owned(topic, partition)
	if c == nil || c.session.Context().Err() != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.inject(nil, injection{key, payload})
	return true
}

// owned is the claim of a partition in the current session, or nil.
func (g *Group) owned(topic string, partition int32) *claim {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, c := range g.claims {
		if c.Topic() == topic && c.Partition() == partition {
			return c
		}
	}
	return nil
}
