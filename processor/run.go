package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lovoo/goka"

	"kafkagrpc/internal/gokalog"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/restart"
	"kafkagrpc/internal/tablestore"
	"kafkagrpc/processor/partition"
)

// The waits between two goka processors (restart.Loop).
const (
	firstWait   = time.Second
	longestWait = 30 * time.Second
	// A disk may have space to begin with, and too little to go on.
	longestDiskWait = 5 * time.Second
)

// heartbeatTimeout is for each step of a heartbeat: another one must fit in the session time-out.
const heartbeatTimeout = 4 * time.Second

// recoveredInterval is how often goka is asked again that says that it has recovered, and has not.
const recoveredInterval = 20 * time.Millisecond

// reportInterval is how often the log says what a processor that is not ready waits for.
const reportInterval = 10 * time.Second

// Run consumes until ctx ends, which drains: calls in flight get processing.drain to finish. goka's processor ends at
// faults that it cannot handle, such as a long outage of the brokers or a full disk; a new one takes its place, after 1s to 30s
// or as soon as Kafka answers again and the disk takes something, and State says why and when. Run answers nil.
func (p *Processor) Run(ctx context.Context) error {
	defer p.config.Telemetry.Metrics.ObserveGroup(p.config.Remote.Group, p.look)()
	var following sync.WaitGroup
	defer following.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	following.Go(func() { p.limits.Follow(ctx, p.cluster, p.config.Log) })
	prepared := true // by New
	restart.Loop{
		Name: "processor", Log: p.config.Log, Level: slog.LevelError,
		First: firstWait, Longest: longestWait, LongestAfter: longestAfter,
		Needed: p.needed, Ended: p.setEnded,
	}.Run(ctx, func(ctx context.Context) (ready time.Duration, err error) {
		if !prepared {
			if err := p.prepare(ctx, true); err != nil { // the topics may have changed
				return 0, err
			}
		}
		prepared = false
		ready, err = p.runOnce(ctx)
		return ready, gokalog.Brief(err)
	})
	return nil
}

func longestAfter(ended error) time.Duration {
	if disk := (*tablestore.DiskError)(nil); errors.As(ended, &disk) {
		return longestDiskWait
	}
	return longestWait
}

// needed answers what a goka processor cannot do without, and is not there. It is not in the group meanwhile, so that other
// instances get its partitions.
func (p *Processor) needed(ctx context.Context) error {
	if err := tablestore.Check(p.config.State.Path()); err != nil {
		return err
	}
	return p.cluster.Ping(ctx)
}

// runOnce runs one goka processor to its end, and answers for how long it was ready.
func (p *Processor) runOnce(ctx context.Context) (ready time.Duration, err error) {
	reader, err := kafka.NewReader(p.cluster)
	if err != nil {
		return 0, fmt.Errorf("group %s: %w", p.config.Remote.Group, err)
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	member, err := kafka.NewMember(p.cluster, p.config.Remote.Group, p.config.InstanceID, heartbeatTimeout)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, member.Close()) }()
	asked := ctx
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	g, err := p.goka(ctx, reader, member, end)
	if err != nil {
		return 0, err
	}
	p.setCurrent(g)
	// Ends also when goka does, so that the goroutines below are always waited for.
	watch, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	var since time.Time
	watching.Go(func() { since = p.watch(watch, g) })
	watching.Go(func() { p.watchLeftOut(watch, end) })
	watching.Go(func() { p.watchPartitions(watch, reader, end) })
	if p.config.Remote.Processing.Standby {
		watching.Go(func() { p.followEnds(watch, reader) })
	}
	err = g.Run(ctx)
	if cause := context.Cause(ctx); cause != nil && asked.Err() == nil { // we have ended it, and what goka says follows from that
		if err != nil {
			p.config.Log.Debug("goka's processor did not end in order", "error", gokalog.Brief(err))
		}
		err = cause
	}
	if asked.Err() != nil && p.config.State.Leaves() {
		p.leave(member)
	}
	stop()
	watching.Wait()
	err = errors.Join(err, p.closeStores())
	before := p.setCurrent(nil)
	p.binding.Wait() // their claims are closed, which cancels them
	for _, part := range before {
		part.GiveUp()
	}
	if !since.IsZero() {
		ready = time.Since(since)
	}
	return ready, err
}

// leave takes the instance out of the group, which would keep its partitions for it until its session times out. Nothing of them is
// under way any more.
func (p *Processor) leave(member *kafka.Member) {
	if err := member.Leave(); err != nil {
		p.config.Log.Warn("the group could not be left: it waits for the return of this instance until its session times out", "error", err)
		return
	}
	p.config.Log.Info("left the group for good: its other members get the partitions at once")
}

// watch waits until goka's processor has recovered, and answers when that was; zero if it ended before.
func (p *Processor) watch(ctx context.Context, g *goka.Processor) (since time.Time) {
	recovered := make(chan error, 1)
	go func() { recovered <- p.waitRecovered(ctx, g) }()
	report := time.NewTicker(reportInterval)
	defer report.Stop()
	var read int64
	for {
		select {
		case err := <-recovered:
			select {
			case <-g.Done(): // goka answers nil then, too
			default:
				if err == nil && ctx.Err() == nil {
					p.setRunning(g)
					return time.Now()
				}
			}
			return time.Time{}
		case <-report.C:
			s := p.State()
			attributes := []any{"reason", s.Reason}
			if s.Recovering > 0 {
				attributes = append(attributes, tablestore.Pace(s.Read-read, reportInterval, s.Total-s.Read)...)
			}
			read = s.Read
			p.config.Log.Info("the processor is not ready yet", attributes...)
		}
	}
}

// waitRecovered returns when goka's processor has recovered, or has ended, or with the context's error.
func (p *Processor) waitRecovered(ctx context.Context, g *goka.Processor) error {
	for {
		if err := g.WaitForReadyContext(ctx); err != nil || p.recovered(g) {
			return err
		}
		select {
		case <-time.After(recoveredInterval):
		case <-g.Done():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// closeStores closes what goka has left open: a recovery before the group is joined that fails does not close its stores,
// and nobody else could open them.
func (p *Processor) closeStores() (err error) {
	p.mu.RLock()
	left := slices.Collect(maps.Keys(p.stores))
	p.mu.RUnlock()
	for _, s := range left {
		err = errors.Join(err, s.Close())
	}
	return err
}

func (p *Processor) setEnded(err error, nextTry time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended, p.nextTry = err, nextTry
}

// setCurrent begins or ends the life of a goka processor. It answers the partitions that there were.
func (p *Processor) setCurrent(g *goka.Processor) (before map[int32]*partition.Partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current, p.nextTry = g, time.Time{}
	before, p.parts = p.parts, make(map[int32]*partition.Partition)
	p.setRunningLocked(nil)
	return before
}

func (p *Processor) setRunning(g *goka.Processor) {
	p.mu.Lock()
	p.ended = nil
	p.setRunningLocked(g)
	partitions := len(p.parts)
	p.mu.Unlock()
	p.config.Log.Info("the processor is ready", "partitions", partitions)
}

func (p *Processor) setRunningLocked(g *goka.Processor) {
	p.running = g
	close(p.changed)
	p.changed = make(chan struct{})
}
