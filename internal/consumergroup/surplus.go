package consumergroup

// passOn gives the records of a claim to Options.Surplus, as many at a time as may be in flight, until the claim is drained.
func (g *Group) passOn(c *claim) error {
	failed := make(chan error, 1)
	for {
		select {
		case m, ok := <-c.Messages():
			if !ok {
				return nil
			}
			d := c.delivery(m.Offset)
			hold := d.Hold()
			g.options.Surplus(d.Record, func(err error) {
				if err == nil {
					hold.Release()
					return
				}
				select {
				case failed <- err:
				default: // the first one tells
				}
			})
			c.mark(m.Offset)
		case err := <-failed:
			return err
		}
	}
}
