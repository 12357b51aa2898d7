package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lovoo/goka"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/statedir"
	"kafkagrpc/internal/tablestore"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor/outbox"
	"kafkagrpc/processor/partition"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// Config is what a Processor needs.
type Config struct {
	Remote  topology.Remote
	Methods topology.Methods // of the catalogs: tells which methods are unary
	Client  *grpcout.Client  // stays the caller's, who closes it after Run has returned
	State   *statedir.Dir    // stays the caller's
	Log     *slog.Logger     // default slog.Default()

	Telemetry *telemetry.Telemetry // stays the caller's; nil: nothing is told

	// Codecs answers what reads and writes the values of the plain events of a route; needed where the remote has such routes.
	Codecs partition.Codecs
	// Check says why a key or value does not fit what its topic asks for; needed where a route says that one does.
	Check func(by *topology.Model, value []byte) error

	// Budget bounds what all processors of the process have in flight together; default one of its own.
	Budget *consumergroup.Budget

	// Paces are those at which all processors of the process call services; default some of its own.
	Paces Paces

	// SweepInterval is how long the removal of expired rows rests, at least; default a 24th of the rows' expiry, from 1m
	// to 1h. Rows that have expired answer nothing, removed or not.
	SweepInterval time.Duration

	// InstanceID is the static member id in the consumer group; default State.InstanceID.
	InstanceID string

	// Advertise is what the group is told of this instance, for those who look for the owner of a partition; "": nothing.
	Advertise string

	// SessionTimeout is after what time without a heartbeat the group gives the partitions of this instance to
	// another one, default 10s. The broker bounds it (group.min.session.timeout.ms, usually 6s).
	SessionTimeout time.Duration

	// MaxUncommitted is how many records of a partition are read ahead of its committed offset, default 100000. A stream that
	// is open for longer is ended.
	MaxUncommitted int

	// CreateTopics is the number of partitions with which missing request and reply topics are created; 0: a
	// missing one is an error. The group's own topics are always created.
	CreateTopics int
}

// Processor runs the consumer group of one remote binding. Its methods are safe for concurrent use; Run is
// called once.
type Processor struct {
	config   Config // with its defaults; its Remote is that of the start
	remote   atomic.Pointer[topology.Remote]
	binding  *partition.Binding
	caller   *grpcout.Caller
	missing  *outbox.MissingTopics
	cluster  kafka.Cluster
	limits   *kafka.Limits // of the topics that are written
	retrying retrying      // calls of rows that wait

	version2 bool // with exactly-once: brokers give each transaction an epoch of its own

	// Set by prepare, before the callbacks run.
	inputs     []string     // the request topics that can be used
	partitions atomic.Int32 // of the group: those of its table
	tableID    string
	storeAge   time.Duration // up to which a local store is continued

	mu        sync.RWMutex                        // never held while something is waited for, such as the disk
	parts     map[int32]*partition.Partition      // of the current assignment
	current   *goka.Processor                     // nil while there is none
	group     *consumergroup.Group                // of the current one
	changelog *changelog                          // as the current one sees it; nil before the first
	stores    map[*tablestore.Store]*atomic.Int64 // open local copies, and how many rows each had when they were counted last; -1 before
	ends      map[int32]changelogEnd              // of the partitions that standby copies follow
	running   *goka.Processor                     // the current one once it has recovered, else nil
	changed   chan struct{}                       // closed and replaced when running changes
	ended     error                               // why the last one ended; nil when another is ready
	nextTry   time.Time                           // when another is made; zero but for the wait for it
	left      map[string]error                    // topics that are left out because they cannot be used, and why
	counts    map[string]int                      // partitions of topics that have more than the group
}

// ErrNotReady is returned while the table is not recovered, or not running.
var ErrNotReady = errors.New("the processor is not ready: its partitions are not assigned or not recovered yet")

// New checks the topics of the binding, creates the group's own, and returns a processor that does nothing before Run. With exactly-once it also asks
// whether Kafka can do that.
func New(ctx context.Context, c Config) (*Processor, error) {
	if c.SweepInterval <= 0 {
		c.SweepInterval = min(max(c.Remote.Expiry/sweepsPerExpiry, minSweep), maxSweep)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	c.Log = c.Log.With("group", c.Remote.Group)
	if c.Telemetry == nil {
		c.Telemetry = telemetry.Off()
	}
	if c.Budget == nil {
		c.Budget = NewBudget(c.Remote)
	}
	if c.Paces == nil {
		c.Paces = NewPaces(c.Remote)
	}
	if c.InstanceID == "" {
		var err error
		if c.InstanceID, err = c.State.InstanceID(); err != nil {
			return nil, err
		}
	}
	p := &Processor{
		config:  c,
		cluster: kafka.ClusterOf(c.Remote.Cluster, c.Remote.Group),
		limits:  new(kafka.Limits),
		missing: outbox.NewMissingTopics(c.Remote.Processing.ExactlyOnce()),
		parts:   make(map[int32]*partition.Partition),
		stores:  make(map[*tablestore.Store]*atomic.Int64),
		ends:    make(map[int32]changelogEnd),
		changed: make(chan struct{}),
	}
	p.cluster.Limits = p.limits
	p.remote.Store(&c.Remote)
	p.retrying.set(c.Remote.Processing)
	p.caller = grpcout.NewCaller(c.Client, p.policy(c.Remote.Processing))
	var err error
	if p.binding, err = partition.NewBinding(partition.Config{
		Remote: c.Remote, Methods: c.Methods, Caller: p.caller, Paces: c.Paces, Limits: p.limits, Partitions: p.partitions.Load,
		Telemetry: c.Telemetry, Log: c.Log, Codecs: c.Codecs, Check: c.Check,
	}); err != nil {
		return nil, err
	}
	if err := p.prepare(ctx, false); err != nil {
		return nil, err
	}
	return p, nil
}

// transactionalID is that of this instance, which is the same after a restart: so it ends what it has left open.
func (p *Processor) transactionalID() string {
	return p.config.Remote.Group + "-" + p.config.InstanceID
}

// prepare checks and creates topics, and learns their limits. At the start a topic that cannot be used is an error; again,
// when the program has run already, the other routes must not stand still for it.
func (p *Processor) prepare(ctx context.Context, again bool) (err error) {
	topics, err := kafka.OpenTopics(p.cluster)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, topics.Close()) }()
	needs := p.needs()
	if again {
		if err := p.leaveOut(topics, &needs); err != nil {
			return err
		}
	}
	partitions, err := topics.Ensure(ctx, needs)
	if err != nil {
		return err
	}
	p.partitions.Store(int32(partitions))
	p.inputs = needs.Inputs
	if err := p.countPartitions(topics, needs); err != nil {
		return err
	}
	if err := p.limits.Learn(topics, append(needs.Inputs, p.written(needs)...)...); err != nil {
		return err
	}
	problems, warnings := partition.Limits(*p.remote.Load(), p.limits, p.written(needs))
	if err := errors.Join(problems...); err != nil {
		return err
	}
	for _, w := range warnings {
		p.config.Log.Warn(w)
	}
	retention, err := topics.DeleteRetention(p.config.Remote.Table)
	if err != nil {
		return err
	}
	if p.tableID, err = topics.ID(p.config.Remote.Table); err != nil {
		return err
	}
	if !again {
		if err := p.warnOfRetention(topics); err != nil {
			return err
		}
	}
	if p.config.Remote.Processing.ExactlyOnce() { // each time: it ends what was left open before anybody asks for offsets
		if p.version2, err = p.cluster.CanTransact(ctx, p.transactionalID(), p.config.Remote.Group, p.transacted(needs)); err != nil {
			return err
		}
	}
	p.storeAge = retention / 2 // the other half is for the recovery to come by what is about to be forgotten
	return nil
}

// WaitReady returns when the partitions that the instance was assigned are recovered and consumed, or with
// the context's error.
func (p *Processor) WaitReady(ctx context.Context) error {
	for {
		p.mu.RLock()
		ready, changed := p.running != nil, p.changed
		p.mu.RUnlock()
		if ready {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrNotReady, context.Cause(ctx))
		}
	}
}

// Row is what the table knows of a key: nil if nothing, also when another instance owns the key's partition.
// It answers ErrNotReady while the table is not recovered: at the start, and during a rebalance.
func (p *Processor) Row(key string) (*rowpb.Row, error) {
	in, of := p.Owned()
	if !p.config.Remote.Processing.Ordered() {
		partition := wire.Partition([]byte(key), of)
		if len(in) > 0 && !slices.Contains(in, partition) {
			return nil, nil
		}
		in = []int32{partition}
	}
	stores, err := p.Stores(in)
	if err != nil {
		return nil, err
	}
	var value []byte
	ctx, cancel := context.WithTimeout(context.Background(), tablestore.AwaitTime)
	defer cancel()
	for _, store := range stores {
		store.Await(ctx, key)
		if value, err = store.Get(key); value != nil || err != nil {
			break
		}
	}
	switch {
	case tablestore.IsClosed(err): // meanwhile
		return nil, ErrNotReady
	case err != nil:
		return nil, fmt.Errorf("reading the row of key %q: %w", key, err)
	case value == nil:
		return nil, nil
	}
	row, err := rowpb.Decode(value)
	if err != nil {
		return nil, fmt.Errorf("reading the row of key %q: %w", key, err)
	}
	return row, nil
}

// Owned are the partitions of the table that this instance works on, and how many there are.
func (p *Processor) Owned() (owned []int32, of int32) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Sorted(maps.Keys(p.parts)), p.partitions.Load()
}

// Stores are the local copies of some partitions, in their order, to be read beside the work. It answers ErrNotReady where this instance
// does not work on all of them, and while the table is not recovered: at the start, and during a rebalance, which closes the stores.
func (p *Processor) Stores(partitions []int32) ([]*tablestore.Store, error) {
	p.mu.RLock()
	running, group := p.running, p.group
	p.mu.RUnlock()
	if running == nil || !p.recovered(running) {
		return nil, ErrNotReady
	}
	if lost := group.Lost(); lost != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotReady, lost)
	}
	stores := make([]*tablestore.Store, len(partitions))
	p.mu.RLock()
	defer p.mu.RUnlock()
	for s := range p.stores {
		if i := slices.Index(partitions, s.Partition); i >= 0 && p.parts[s.Partition] != nil {
			stores[i] = s
		}
	}
	if i := slices.Index(stores, nil); i >= 0 {
		return nil, fmt.Errorf("%w: partition %d is not one of this instance's now", ErrNotReady, partitions[i])
	}
	return stores, nil
}

// partition is the state of an assigned partition.
func (p *Processor) partition(id int32) *partition.Partition {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.parts[id]
}

// assigned begins a generation of the group.
func (p *Processor) assigned(a goka.Assignment) {
	parts := make(map[int32]*partition.Partition, len(a))
	for id := range a {
		parts[id] = p.binding.Assign(id)
	}
	p.mu.Lock()
	before := p.parts
	p.parts = parts
	p.mu.Unlock()
	for _, part := range before {
		part.GiveUp()
	}
	p.config.Telemetry.Metrics.Rebalanced(p.config.Remote.Group)
	p.config.Log.Info("partitions assigned", "partitions", slices.Sorted(maps.Keys(a)))
}

// storeDir is where the local stores of the table live.
func (p *Processor) storeDir() string {
	return filepath.Join(p.config.State.Path(), p.config.Remote.Group)
}

// written are the topics of needs that the processor writes to.
func (p *Processor) written(needs kafka.Needs) []string {
	return append(slices.Clone(needs.Outputs), needs.Table, needs.Loop, needs.DeadLetters)
}
