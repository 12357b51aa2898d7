package topology

import (
	"cmp"
	"time"

	"google.golang.org/grpc/codes"
)

// Processing bounds the work of a remote binding.
type Processing struct {
	MaxInFlight      int `yaml:"max-in-flight" is:"count" default:"1000" doc:"requests per partition"`
	MaxInFlightBytes int `yaml:"max-in-flight-bytes" is:"size" default:"64MiB" doc:"bytes of the records of requests, per partition"`

	// The same for all partitions of a process; of several remotes in one process the smallest counts.
	MaxInFlightTotal      int `yaml:"max-in-flight-total" is:"count" default:"10000" doc:"requests of the process; the smallest of several bindings counts"`
	MaxInFlightTotalBytes int `yaml:"max-in-flight-total-bytes" is:"size" default:"256MiB" doc:"bytes of the records of requests, in the process"`

	Timeout    time.Duration `yaml:"timeout" is:"bound" default:"30s" doc:"of each attempt of a call without a deadline; none: stream-idle bounds it"` // 0: none
	StreamIdle time.Duration `yaml:"stream-idle" is:"duration" default:"5m" doc:"ends a stream without messages either way, and a call without a deadline"`
	Drain      time.Duration `yaml:"drain" is:"duration" default:"10s" doc:"what calls in flight get when a partition is given up"`
	MaxAge     time.Duration `yaml:"max-age" is:"bound" json:",omitempty" doc:"older requests become dead letters without a call; none is the default"` // 0: none is too old
	DeadLetter string        `yaml:"dead-letter" is:"topic" json:"-" doc:"topic of dead letters; without it, NAME-BINDING-dead-letters"`

	// OrderKey or OrderPartition; "": calls are made side by side.
	Order string `yaml:"order" is:"word" oneof:"none key partition" json:",omitempty" doc:"key: calls of one record key are made one after another; partition: those of a partition are; none is the default"`

	// GuaranteeExactlyOnce; "": at least once.
	Guarantee string `yaml:"guarantee" is:"word" oneof:"at-least-once exactly-once" json:",omitempty" doc:"exactly-once: what is written for requests, and their offsets, is committed in transactions of Kafka; at-least-once is the default"`
	// What bounds such a transaction. Without one they have no effect.
	TransactionMax      time.Duration `yaml:"transaction.max" is:"moment" default:"100ms" doc:"how long a transaction takes in what is written before it is committed"`
	TransactionMaxBytes int           `yaml:"transaction.max-bytes" is:"size" default:"16MiB" doc:"bytes of the records of a transaction"`

	// Attempts that end with one of RetryCodes are made again, and no result with one becomes final.
	RetryCodes      []codes.Code  `yaml:"retry.codes" is:"code" default:"unavailable" doc:"attempts that end with one of these are made again"`
	RetryInitial    time.Duration `yaml:"retry.initial" is:"duration" default:"50ms" doc:"longest pause after the first attempt, which doubles up to max"`
	RetryMax        time.Duration `yaml:"retry.max" is:"duration" default:"10s" doc:"longest pause between attempts"`
	RetryMaxElapsed time.Duration `yaml:"retry.max-elapsed" is:"duration" default:"10m" doc:"no attempt begins after this, without time held by the breaker"`

	// RetryParkAfter is when a request waits in the table for its next attempt; 0: never.
	RetryParkAfter time.Duration `yaml:"retry.park-after" is:"patience" default:"1m" doc:"a request that is retried for so long waits in the table, and its offset is committed; or never"`

	BreakerFailures int           `yaml:"breaker.failures" is:"count" default:"20" doc:"failed attempts in a row that open the breaker of a target"`
	BreakerOpen     time.Duration `yaml:"breaker.open" is:"duration" default:"5s" doc:"how long no call is made when the breaker is open"`

	Standby bool `yaml:"standby" is:"toggle" doc:"each instance also keeps copies of the partitions that it does not own"`
}

// The orders in which calls of a partition are made.
const (
	OrderKey       = "key"       // those of one record key one after another
	OrderPartition = "partition" // all of them
)

// Ordered reports whether there is an order of calls. What comes in a partition is handled and kept there then, whatever its key.
func (p Processing) Ordered() bool { return p.Order != "" }

// GuaranteeExactlyOnce lets all that is written for requests, and their offsets, be committed in transactions.
const GuaranteeExactlyOnce = "exactly-once"

// ExactlyOnce reports whether that is the guarantee.
func (p Processing) ExactlyOnce() bool { return p.Guarantee == GuaranteeExactlyOnce }

// What counts where a Processing says 0.
var (
	DefaultMaxInFlight           = withDefaults(Processing{}).MaxInFlight
	DefaultMaxInFlightBytes      = withDefaults(Processing{}).MaxInFlightBytes
	DefaultMaxInFlightTotal      = withDefaults(Processing{}).MaxInFlightTotal
	DefaultMaxInFlightTotalBytes = withDefaults(Processing{}).MaxInFlightTotalBytes
	DefaultTransactionMax        = withDefaults(Processing{}).TransactionMax
	DefaultTransactionMaxBytes   = withDefaults(Processing{}).TransactionMaxBytes
)

// processing is what the options of a kafka-grpc binding say, whose consumer group is given.
func (c *compiler) processing(given *Processing, group string) Processing {
	p := *given
	p.DeadLetter = cmp.Or(p.DeadLetter, group+"-dead-letters")
	if p.Order == "none" {
		p.Order = ""
	}
	if !p.ExactlyOnce() {
		p.Guarantee = ""
		for _, t := range []text{c.texts[&given.TransactionMax], c.texts[&given.TransactionMaxBytes]} {
			if t.given {
				c.report.warn(t.position, "%s has no effect without `options.processing.guarantee: exactly-once`", t.place)
			}
		}
	}
	p.RetryCodes = distinct(p.RetryCodes, func(code codes.Code) codes.Code { return code })
	switch initial, most := c.texts[&given.RetryInitial], c.texts[&given.RetryMax]; {
	case initial.ok && most.ok && p.RetryInitial > p.RetryMax:
		c.report.problem(initial.position, "%s must be at most `max`, which is `%s`, not `%s`", initial.place, most.raw, initial.raw)
	case !most.ok: // a default gives way to what is given
		p.RetryMax = max(p.RetryMax, p.RetryInitial)
	case !initial.ok:
		p.RetryInitial = min(p.RetryInitial, p.RetryMax)
	}
	return p
}
