package consumergroup

// passOn gives the records of a claim to Options.Surplus, as many at a time as may be in flight, until the claim is drained.
func (g *Group) passOn(c *claim) error {
	failed := make(chan error, 1)
	for {
		select {
		case _, ok := <-c.Messages():
			if !ok {
				return nil
			}
			batch := Batch{claim: c}
			for d := batch.Next(); d != nil; d = batch.Next() {
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
				d.Mark()
			}
		case err := <-failed:
			return err
		}
	}
}
