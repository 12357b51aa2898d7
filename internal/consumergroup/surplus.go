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
				g.options.Surplus(d.Record, func(err error) {
					if err == nil {
						d.Mark()
						return
					}
					select {
					case failed <- err:
					default: // the first one tells
					}
				})
			}
		case err := <-failed:
			return err
		}
	}
}
