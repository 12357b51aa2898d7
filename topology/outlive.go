package topology

import (
	"fmt"
	"math"
	"time"
)

// Outlive says what is wrong where a topic keeps requests for that long, and their results are forgotten before; "" where
// nothing is. The longest duration is for good, and 0 is not known.
func (r Remote) Outlive(retention time.Duration) string {
	asked := retention
	if r.Processing.MaxAge > 0 {
		asked = min(asked, r.Processing.MaxAge) // above it nothing is executed
	}
	if asked <= r.Expiry {
		return ""
	}
	kept := "for " + retention.String()
	if retention == math.MaxInt64 {
		kept = "for good"
	}
	return fmt.Sprintf("keeps requests %s, and the table their results for %v (table.expiry): if the offsets of the group are lost or reset, older ones are "+
		"executed again; set processing.max-age to %[2]v or less, raise table.expiry, or lower the topic's retention.ms", kept, r.Expiry)
}

// Requests are the topics that requests are read from: those of all routes, and the loop topic.
func (r Remote) Requests() []string { return append(r.Inputs(), r.Loop) }
