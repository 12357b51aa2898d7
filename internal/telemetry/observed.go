package telemetry

import (
	"context"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Group is what a consumer group has at a moment.
type Group struct {
	InFlight int           // calls
	Oldest   time.Duration // age of the oldest of them
	Parked   int           // requests that wait for a call of their key
	Queued   int           // requests that wait in line for those before them
	Streams  int           // open ones

	// Keys whose requests wait in the table, and for how long the first of them does.
	Waiting       int
	OldestWaiting time.Duration

	Claims []Claim
	Ready  bool

	// The changelog records of the recovery that goes on.
	Recovering            int // partitions
	Recovered, ToRecover  int64
	Tables                []Table
	Standby               map[int32]int64 // records that a copy of a partition lacks
	OpenBreakers, Targets []string        // of services; the open ones are among the targets
}

// Claim is one partition of one topic that an instance consumes.
type Claim struct {
	Topic       string
	Partition   int32
	Lag         int64 // records that are not read yet
	Uncommitted int   // records from the first unfinished one to the last one read
	Held        int   // records that are unfinished
	HeldBytes   int   // of their keys, values and headers
}

// Table is the local copy of one partition of a table.
type Table struct {
	Partition int32
	Rows      int64 // when they were counted last; negative: not yet
	Bytes     int64 // on the disk
}

// ObserveGroup makes the metrics of a group be asked for when they are collected. stop ends that.
func (m *Metrics) ObserveGroup(group string, f func() Group) (stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.groups[group] = f
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.groups, group)
	}
}

func (m *Metrics) observe(meter metric.Meter) error {
	gauges := make(map[*Spec]metric.Int64Observable, len(observed))
	seconds := make(map[*Spec]metric.Float64Observable, 1)
	var all []metric.Observable
	for _, s := range observed {
		if s.unit == "s" {
			g, err := meter.Float64ObservableGauge(s.name, metric.WithUnit(s.unit), metric.WithDescription(s.description))
			if err != nil {
				return err
			}
			seconds[s], all = g, append(all, g)
			continue
		}
		g, err := meter.Int64ObservableGauge(s.name, metric.WithUnit(s.unit), metric.WithDescription(s.description))
		if err != nil {
			return err
		}
		gauges[s], all = g, append(all, g)
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for name, f := range m.observedGroups() {
			group := attribute.String("group", name)
			set := func(s *Spec, v int64, more ...attribute.KeyValue) {
				o.ObserveInt64(gauges[s], v, metric.WithAttributes(append(more, group)...))
			}
			g := f()
			set(&inFlight, int64(g.InFlight))
			o.ObserveFloat64(seconds[&oldest], g.Oldest.Seconds(), metric.WithAttributes(group))
			set(&parked, int64(g.Parked))
			set(&queued, int64(g.Queued))
			set(&waitingRows, int64(g.Waiting))
			o.ObserveFloat64(seconds[&waitingAge], g.OldestWaiting.Seconds(), metric.WithAttributes(group))
			set(&streams, int64(g.Streams))
			set(&ready, flag(g.Ready))
			set(&recovering, int64(g.Recovering))
			set(&recovered, g.Recovered)
			set(&toRecover, g.ToRecover)
			for _, c := range g.Claims {
				topic, partition := attribute.String("topic", c.Topic), partitionOf(c.Partition)
				set(&lag, c.Lag, topic, partition)
				set(&uncommitted, int64(c.Uncommitted), topic, partition)
				set(&held, int64(c.Held), topic, partition)
				set(&heldBytes, int64(c.HeldBytes), topic, partition)
			}
			for _, t := range g.Tables {
				if t.Rows >= 0 {
					set(&rows, t.Rows, partitionOf(t.Partition))
				}
				set(&tableBytes, t.Bytes, partitionOf(t.Partition))
			}
			for p, n := range g.Standby {
				set(&standbyLag, n, partitionOf(p))
			}
			open := make(map[string]bool, len(g.OpenBreakers))
			for _, t := range g.OpenBreakers {
				open[t] = true
			}
			for _, t := range g.Targets {
				set(&breaker, flag(open[t]), attribute.String("target", t))
			}
		}
		return nil
	}, all...)
	return err
}

func (m *Metrics) observedGroups() map[string]func() Group {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]func() Group, len(m.groups))
	for name, f := range m.groups {
		out[name] = f
	}
	return out
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func partitionOf(p int32) attribute.KeyValue {
	return attribute.String("partition", strconv.Itoa(int(p)))
}
